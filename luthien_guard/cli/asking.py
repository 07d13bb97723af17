"""What the commands share that ask the store: which one, which call, times and sizes as people write them."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import click

from luthien_guard.cli.options import config_option, load_or_fail
from luthien_guard.cli.terminal import fail
from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.query import Query
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import Row, Store

__all__ = [
    "ago",
    "answered",
    "as_json",
    "call_named",
    "clock",
    "json_option",
    "line",
    "store_option",
    "store_url",
]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def store_option(command: F) -> F:
    """`--store URL` and `--config FILE`."""
    option = click.option("--store", help="The store's URL [default: that of the configuration].")
    return option(config_option(command))


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "json_", is_flag=True, help="For machines: one JSON object a line.")(
        command
    )


def store_url(store: str | None, config: Path | None) -> str:
    """The store that is meant. Ends the program where there is none."""
    url = store or load_or_fail(config).config.store
    if url is None:
        fail("no store is configured: give --store URL, or `store:` in the configuration")
    return url


def answered(url: str, question: Callable[[Query], Awaitable[T]]) -> T:
    """Ask the store at `url`; ends the program with code 2 where it cannot be asked."""

    async def ask() -> T:
        query = Query(lambda: _existing(url))
        try:
            return await question(query)
        finally:
            await query.close()

    try:
        return anyio.run(ask)
    except (ConfigError, SinkError) as error:
        fail(error)


def _existing(url: str) -> Store:
    """The store; a file that is not there is not made by a question."""
    store = open_store(url)
    path: Path | None = getattr(store, "path", None)
    if path is not None and not path.exists():
        raise SinkError(f"{path} does not exist: nothing has been recorded there yet")
    return store


async def call_named(query: Query, name: str) -> str:
    """The id of the call that `name` is, begins or ends. Ends the program with code 1 where that is none or several."""
    if await query.call(name) is not None:
        return name
    found: list[str] = []
    before: str | None = None
    while page := await query.calls(before=before, limit=1000):
        found += [
            each.call_id for each in page if each.call_id.startswith(name) or each.call_id.endswith(name)
        ]
        before = page[-1].call_id
    if len(found) != 1:
        fail(f"no call {name!r}" if not found else f"{name!r} is not one call: {', '.join(found[:5])}", 1)
    return found[0]


def as_json(value: Any) -> None:
    """Print one object on one line. JSON escapes what would steer a terminal."""
    if isinstance(value, Row):
        value = {**asdict(value), "payload": value.details}
    click.echo(json.dumps(value, ensure_ascii=True, default=str))


def clock(at: float | None) -> str:
    """A moment as people read it, in UTC."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(seconds: float | None) -> float | None:
    """That long before now, in Unix seconds."""
    return None if seconds is None else time.time() - seconds


def line(row: Row) -> str:
    """A row on one line: when, whose, what, and the most telling of its details."""
    details = row.details
    told = next((details[key] for key in _TELLING if details.get(key)), "")
    who = f" {row.policy}" if row.policy else ""
    return f"{clock(row.at)}  {row.call_id[-12:]}  {row.event_type}{who}  {str(told)[:100]}".rstrip()


_TELLING: Final = ("reason", "error", "outcome", "event", "model", "verdict", "channel", "status", "usage")
