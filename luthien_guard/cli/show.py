"""`luthien-guard show`: one exchange."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from luthien_guard.cli.asking import answered, as_json, call_named, json_option, store_option, store_url
from luthien_guard.cli.facts import clock, details_of, jsonable, line
from luthien_guard.cli.terminal import printable
from luthien_guard.query import Query
from luthien_guard.store import Call, Row

__all__ = ["command"]

_LINES: Final = 40  # of one fact; captured chunks are thousands
_WIDTH: Final = 400


@click.command("show")
@click.argument("call")
@click.option("--full", is_flag=True, help="Leave nothing out of long facts.")
@json_option
@store_option
def command(call: str, full: bool, json_: bool, store: str | None, config: Path | None) -> None:
    """Show CALL (an id, or how one begins or ends) and its facts. With --json the call comes first, then a line for each
    fact. Exit codes: 0 fine, 1 no such call, 2 wrong usage or a store that cannot be asked."""

    async def ask(query: Query) -> tuple[Call | None, list[Row]]:
        call_id = await call_named(query, call)
        return await query.call(call_id), await query.events(call_id)

    found, rows = answered(store_url(store, config), ask)
    columns = {} if found is None else asdict(found)
    if json_:
        for each in (columns, *map(jsonable, rows)):
            as_json(each)
        return
    for name, value in columns.items():
        if value is not None:
            click.echo(f"{name:14} {printable(clock(value) if name.endswith('_at') else value)}")
    for row in rows:
        click.echo("\n" + line(row))
        click.echo("\n".join(f"    {each}" for each in _lines(details_of(row), full=full)))


def _lines(details: dict[str, Any], *, full: bool) -> list[str]:
    """The details as JSON, texts of several lines as lines: each under a margin that no text can leave."""
    lines = [shown for key, value in details.items() for shown in _value(key, value)]
    lines = [printable(each) for each in lines]
    if full:
        return lines
    cut = [each if len(each) <= _WIDTH else f"{each[:_WIDTH]}… ({len(each)} characters)" for each in lines]
    return cut if len(cut) <= _LINES else [*cut[:_LINES], f"… ({len(cut)} lines: --full shows all)"]


def _value(key: str, value: Any) -> list[str]:
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, str) and "\n" in value:
        return [f"{key}:", *(f"  | {each}" for each in value.split("\n"))]
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return f"{json.dumps(key, ensure_ascii=False)}: {text}".split("\n")


def _parsed(text: str) -> Any:
    """Bodies are JSON as text: as JSON they can be read."""
    try:
        found = json.loads(text) if text[:1] in ("{", "[") else text
    except (ValueError, RecursionError):
        return text
    return found
