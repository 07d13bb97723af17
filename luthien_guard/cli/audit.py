"""`luthien-guard audit`: is the record whole?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from luthien_guard.cli.asking import answered, as_json, call_named, json_option, store_option, store_url
from luthien_guard.cli.output import progress
from luthien_guard.cli.terminal import printable, say
from luthien_guard.query import Query, Report

__all__ = ["command"]


@click.group("audit")
def command() -> None:
    """Check the chains of the record."""


@command.command("verify")
@click.argument("call", required=False)
@json_option
@store_option
def verify(call: str | None, json_: bool, store: str | None, config: Path | None) -> None:
    """Follow every chain (or that of CALL): no row is missing, changed or put in, and the line of the call says what its
    rows say. Names the first broken row of each call. Exit codes: 0 whole, 1 broken or no such call, 2 wrong usage or a
    store that cannot be asked."""

    async def ask(query: Query) -> Report:
        one = None if call is None else await call_named(query, call)
        stats = await query.stats() if one is None else {"calls": 1, "events": 0}
        with progress("verifying", stats["calls"] + stats["events"]) as tell:
            return await query.audit(one, progress=lambda report: tell(report.calls + report.events))

    report = answered(store_url(store, config), ask)
    if json_:
        as_json(asdict(report))
    else:
        _told(report)
    if report.findings:
        sys.exit(1)


def _told(report: Report) -> None:
    for each in report.findings:
        place = f"{each.call_id} row {each.seq}: " if each.call_id else ""
        click.echo(printable(f"{place}{each.problem}"))
    aside = {"under way or cut off": report.open, "pruned to their line": report.pruned}
    more = "".join(f", {count} {what}" for what, count in aside.items() if count)
    say(f"{report.calls} calls, {report.events} rows: {len(report.findings)} broken{more}")
