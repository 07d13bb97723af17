"""`luthien-guard doctor`: what keeps the gateway from working, before a client finds out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import click

from luthien_guard.cli.checks import Finding, clock, disk, extras, keys, port, reachable, shared
from luthien_guard.cli.options import config_option, load_or_fail
from luthien_guard.cli.plan import upstream_name
from luthien_guard.cli.streams import refused
from luthien_guard.cli.terminal import columns, say
from luthien_guard.config.load import Loaded

__all__ = ["command"]

_MARKS: Final = {"ok": "ok", "warning": "!", "failure": "FAIL"}


@click.command("doctor")
@config_option
@click.option("--offline", is_flag=True, help="Ask no upstream.")
def command(config: Path | None, offline: bool) -> None:
    """Look at the configuration, the port, keys, what workers share, upstreams, the clock and the disk. No credential is sent anywhere.
    Ends with 1 when something is broken."""
    loaded = load_or_fail(config)
    findings = [Finding("configuration", "ok", str(loaded.path or "no file: defaults"))]
    findings += _local(loaded)
    findings += _credentials(loaded)
    if not offline:
        findings += _upstreams(loaded)
    say(columns([(_MARKS[each.state], each.what, each.says) for each in findings]))
    broken = sum(1 for each in findings if each.state == "failure")
    say(f"\n{broken} broken" if broken else "\nnothing is broken")
    sys.exit(1 if broken else 0)


def _local(loaded: Loaded) -> Iterable[Finding]:
    checks: list[Callable[[Loaded], Finding]] = [_plan, extras, port, keys, shared, disk]
    return [_found(check, loaded) for check in checks]


def _found(check: Callable[[Loaded], Finding], loaded: Loaded) -> Finding:
    """A folder that nobody may read is a finding, too."""
    try:
        return check(loaded)
    except OSError as error:
        return Finding(check.__name__.strip("_"), "failure", refused(error))


def _plan(loaded: Loaded) -> Finding:
    from luthien_guard.cli.constructing import built
    from luthien_guard.errors import ConfigError

    try:
        plan = built(loaded)[None]
    except ConfigError as error:
        return Finding("plan", "failure", str(error))
    return Finding("plan", "ok", ", ".join(each.name for each in plan.registered) or "no policies")


def _credentials(loaded: Loaded) -> Iterable[Finding]:
    """That leave for more than one provider."""
    from luthien_guard.gateway.upstreams.providers import wide_credential

    for number, each in enumerate(loaded.config.upstreams, start=1):
        if warning := wide_credential(each):
            yield Finding(f"upstream {upstream_name(each, number)}", "warning", warning)


def _upstreams(loaded: Loaded) -> Iterable[Finding]:
    """Each is asked once; the first that says what time it is sets our clock right."""
    offset: float | None = None
    for number, each in enumerate(loaded.config.upstreams, start=1):
        found, its = reachable(each, upstream_name(each, number))
        offset = its if offset is None else offset
        yield found
    yield clock(offset)
