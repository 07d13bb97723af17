"""`luthien-guard tail`: facts as they are stored."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import click

from luthien_guard.cli.asking import answered, as_json, json_option, line, store_option, store_url
from luthien_guard.cli.terminal import say
from luthien_guard.query import Query
from luthien_guard.store import Row

__all__ = ["command"]


@click.command("tail")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="Calls to begin with."
)
@json_option
@store_option
def command(follow: bool, lines: int, json_: bool, store: str | None, config: Path | None) -> None:
    """Print the latest facts. Exit codes: 0 fine, 2 wrong usage or a store that cannot be asked."""

    def tell(row: Row) -> None:
        as_json(row) if json_ else say(line(row))

    async def ask(query: Query) -> None:
        position = await query.position()
        for call in reversed(await query.calls(limit=lines) if lines else []):
            for row in await query.events(call.call_id):
                tell(row)
        if follow:
            async with aclosing(query.follow(position)) as rows:
                async for row in rows:
                    tell(row)

    try:
        answered(store_url(store, config), ask)
    except KeyboardInterrupt:
        say(err=True)
