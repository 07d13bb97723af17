"""`luthien-guard show`: one exchange."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from luthien_guard.cli.asking import (
    answered,
    as_json,
    call_named,
    clock,
    json_option,
    line,
    store_option,
    store_url,
)
from luthien_guard.cli.terminal import say
from luthien_guard.query import Query
from luthien_guard.store import Call, Row

__all__ = ["command"]


@click.command("show")
@click.argument("call")
@json_option
@store_option
def command(call: str, json_: bool, store: str | None, config: Path | None) -> None:
    """Show CALL (an id, or how one begins or ends) and its facts. Exit codes: 0 fine, 1 no such call, 2 wrong usage."""

    async def ask(query: Query) -> tuple[Call | None, list[Row]]:
        call_id = await call_named(query, call)
        return await query.call(call_id), await query.events(call_id)

    found, rows = answered(store_url(store, config), ask)
    if found is None:
        return
    if json_:
        as_json(asdict(found))
        for row in rows:
            as_json(row)
        return
    for name, value in asdict(found).items():
        if value is not None:
            say(f"{name:14} {clock(value) if name.endswith('_at') else value}")
    for row in rows:
        say()
        say(line(row))
        say(_indented(row))


def _indented(row: Row) -> str:
    text = json.dumps(row.details, indent=2, ensure_ascii=False)
    return "\n".join(f"    {each[:400]}" for each in text.split("\n"))
