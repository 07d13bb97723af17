"""`luthien-guard check`: is this configuration right, and what will it do?"""

from __future__ import annotations

from pathlib import Path

import click

from luthien_guard.cli.constructing import built
from luthien_guard.cli.options import load_or_fail
from luthien_guard.cli.plan import config_rows, policy_rows
from luthien_guard.cli.terminal import fail, say
from luthien_guard.engine.version import versions_of
from luthien_guard.errors import ConfigError

__all__ = ["command"]


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--config", "config", type=click.Path(path_type=Path), help="The same as FILE.")
def command(file: Path | None, config: Path | None) -> None:
    """Validate FILE (default: what POLICY_CONFIG names) and print the effective plan: policies in order and what each
    holds back, routes, upstreams, sinks. Asks nobody: for what can be reached, see `doctor`."""
    loaded = load_or_fail(file or config)
    if loaded.path is None:
        raise click.UsageError("name a file, or set POLICY_CONFIG")
    try:
        plans = built(loaded)
    except ConfigError as error:
        fail(error)
    rows = [*policy_rows(plans[None])]
    for name, plan in plans.items():
        rows += ["", f"for keys with the policies {name!r}:", *policy_rows(plan)] if name is not None else []
    if len(plans) > 1:
        together = versions_of({name: plan.version for name, plan in plans.items()})
        rows += ["", f"version of all of them, as /health says it: {together}"]
    say("\n".join([*rows, "", *config_rows(loaded.config)]))
