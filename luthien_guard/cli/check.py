"""`luthien-guard check`: is this configuration right, and what will it do?"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from luthien_guard.cli.options import load_or_fail
from luthien_guard.cli.plan import config_rows, policy_rows
from luthien_guard.cli.terminal import fail, say
from luthien_guard.config.load import Loaded, config_from_environment, guard_arguments
from luthien_guard.engine.plan import Plan
from luthien_guard.errors import ConfigError
from luthien_guard.limits import Limits

__all__ = ["built", "command"]


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--config", "config", type=click.Path(path_type=Path), help="The same as FILE.")
def command(file: Path | None, config: Path | None) -> None:
    """Validate FILE (default: what POLICY_CONFIG names) and print the effective plan: policies in order and what each
    holds back, routes, upstreams, sinks. Asks nobody: for what can be reached, see `doctor`."""
    path = file or config or config_from_environment()
    if path is None:
        raise click.UsageError("name a file, or set POLICY_CONFIG")
    loaded = load_or_fail(path)
    try:
        plans = built(loaded)
    except ConfigError as error:
        fail(error if str(path) in str(error) else f"{path}: {error}")
    rows = [*policy_rows(plans[None])]
    for name, plan in plans.items():
        rows += ["", f"for keys with the policies {name!r}:", *policy_rows(plan)] if name is not None else []
    say("\n".join([*rows, "", *config_rows(loaded.config)]))


def built(loaded: Loaded) -> dict[str | None, Plan]:
    """What serving would build, without opening anything: a plan for each set of policies, None for who has none.
    Raises ConfigError."""
    arguments = guard_arguments(loaded.config)
    own = arguments["policies"]
    sets = {None: own, **{name: [*own, *further] for name, further in arguments["policy_sets"].items()}}
    plans = {name: Plan(items, mode=arguments["mode"], allow_paths=True) for name, items in sets.items()}
    if importlib.util.find_spec("starlette") is not None:
        from luthien_guard.gateway.hosts import check_binding
        from luthien_guard.gateway.shared.sharing import Sharing
        from luthien_guard.gateway.upstreams import Upstreams

        check_binding(loaded.config)
        Sharing(loaded, str)
        if loaded.config.upstreams:
            Upstreams(loaded.config.upstreams, Limits())
    return plans
