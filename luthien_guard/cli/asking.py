"""What the commands share that ask the store: which one, which call, times and sizes as people write them."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click

from luthien_guard.cli.options import config_option, load_or_fail
from luthien_guard.cli.terminal import fail
from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.query import Query
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import Store

__all__ = [
    "ago",
    "answered",
    "as_json",
    "call_named",
    "existing",
    "json_option",
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
        query = Query(lambda: existing(url))
        try:
            return await question(query)
        finally:
            with anyio.CancelScope(shield=True):  # Ctrl-C
                await query.close()

    try:
        return anyio.run(ask)
    except (ConfigError, SinkError) as error:
        fail(error)


def existing(url: str) -> Store:
    """The store, not opened yet; a file that is not there is not made by a question. Raises ConfigError, SinkError."""
    if url.startswith("memory:"):
        raise ConfigError("memory:// ends with its process: there is nothing to ask")
    store = open_store(url)
    path: Path | None = getattr(store, "path", None)
    if path is not None and not path.exists():
        raise SinkError(f"{path} does not exist: nothing has been recorded there yet")
    return store


async def call_named(query: Query, name: str) -> str:
    """The id of the call that `name` is, begins or ends. Ends the program with code 1 where that is none or several."""
    found = await query.find(name, limit=5)
    if len(found) != 1:
        fail(f"no call {name!r}" if not found else f"{name!r} is not one call: {', '.join(found)}", 1)
    return found[0]


def as_json(value: Any) -> None:
    """Print one object on one line. JSON escapes what would steer a terminal, except for DEL, and has no word for what is
    no number: that is the text `NaN`, `Infinity` or `-Infinity`."""
    text = json.dumps(value, default=str)
    if "NaN" in text or "Infinity" in text:
        text = json.dumps(json.loads(text, parse_constant=str))
    click.echo(text.replace("\x7f", "\\u007f"))


def ago(seconds: float | None) -> float | None:
    """That long before now, in Unix seconds."""
    return None if seconds is None else time.time() - seconds
