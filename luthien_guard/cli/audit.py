"""`luthien-guard audit`: is the record whole?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from luthien_guard.cli.asking import answered, as_json, call_named, json_option, store_option, store_url
from luthien_guard.cli.terminal import say
from luthien_guard.query import Finding, Query

__all__ = ["command"]


@click.group("audit")
def command() -> None:
    """Check the chains of the record."""


@command.command("verify")
@click.argument("call", required=False)
@json_option
@store_option
def verify(call: str | None, json_: bool, store: str | None, config: Path | None) -> None:
    """Follow every chain (or that of CALL): no row is missing, changed or put in. Names the first broken row of each
    call. Exit codes: 0 whole, 1 broken, 2 wrong usage or a store that cannot be asked."""

    async def ask(query: Query) -> tuple[list[Finding], int]:
        one = None if call is None else await call_named(query, call)
        return await query.verify(one), (await query.stats())["calls"] if one is None else 1

    found, calls = answered(store_url(store, config), ask)
    for each in found:
        as_json(asdict(each)) if json_ else say(f"{each.call_id} row {each.seq}: {each.problem}")
    if not json_:
        say(f"{calls} calls, {len(found)} broken")
    if found:
        sys.exit(1)
