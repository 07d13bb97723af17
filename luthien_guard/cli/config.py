"""`luthien-guard config`: what is in effect, where it comes from, what may be said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from luthien_guard.cli.options import config_option, load_or_fail
from luthien_guard.cli.terminal import columns, say
from luthien_guard.config.load import Loaded
from luthien_guard.config.yaml_file import Place

__all__ = ["command"]


@click.group("config")
def command() -> None:
    """Show the configuration. Secrets are never printed."""


@command.command("show")
@config_option
@click.option("--origin", is_flag=True, help="Say of each value where it comes from.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(config: Path | None, origin: bool, as_json: bool) -> None:
    """The configuration that `serve` would use: defaults, file, environment."""
    from luthien_guard.config.masking import masked

    loaded = load_or_fail(config)
    values = masked(loaded.config.model_dump(mode="json"))
    if origin:
        rows = [
            (_dotted(place), json.dumps(value), loaded.origins.of(place)) for place, value in _leaves(values)
        ]
        say(json.dumps(_nested(rows), indent=2) if as_json else columns(rows))
    elif as_json:
        say(json.dumps(values, indent=2))
    else:
        import yaml

        say(yaml.safe_dump(values, sort_keys=False).rstrip())


@command.command("schema")
def schema() -> None:
    """The JSON schema of guard.yaml, for editors."""
    from luthien_guard.config.schema import json_schema

    say(json.dumps(json_schema(), indent=2))


@command.command("path")
@config_option
def path(config: Path | None) -> None:
    """The file that is read."""
    loaded: Loaded = load_or_fail(config)
    say(str(loaded.path or "none"))


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    if not inner or not value:
        yield place, value
        return
    for key, each in inner:
        yield from _leaves(each, (*place, key))


def _nested(rows: list[tuple[str, str, str]]) -> dict[str, Any]:
    return {name: {"value": json.loads(value), "origin": origin} for name, value, origin in rows}


def _dotted(place: Place) -> str:
    return ".".join(str(part) for part in place)
