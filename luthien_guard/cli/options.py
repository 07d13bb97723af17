"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from luthien_guard.cli.terminal import fail
from luthien_guard.config.defaults import gateway_defaults
from luthien_guard.config.load import Loaded, config_from_environment, load_config
from luthien_guard.config.yaml_file import Place
from luthien_guard.errors import ConfigError

__all__ = ["config_option", "load_or_fail"]

F = TypeVar("F", bound=Callable[..., Any])


def config_option(command: F) -> F:
    """`--config FILE`."""
    option = click.option(
        "--config",
        "config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The configuration [default: what POLICY_CONFIG names].",
    )
    return option(command)


def load_or_fail(path: Path | None, options: dict[Place, tuple[str, Any]] | None = None) -> Loaded:
    """The configuration of the gateway; ends the program with code 2 where it is wrong."""
    try:
        path = path or config_from_environment()
        return load_config(path, options=options, defaults=gateway_defaults(has_file=path is not None))
    except ConfigError as error:
        fail(error)
