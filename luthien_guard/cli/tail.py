"""`luthien-guard tail`: facts as they are stored."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import click

from luthien_guard.cli.asking import answered, as_json, json_option, store_option, store_url
from luthien_guard.cli.facts import jsonable, line
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
    """Print the facts of the latest calls. Exit codes: 0 fine (also after Ctrl-C), 2 wrong usage or a store that cannot
    be asked."""

    def tell(row: Row) -> None:
        as_json(jsonable(row)) if json_ else click.echo(line(row))

    async def ask(query: Query) -> None:
        position = await query.position() if follow else 0
        rows = await _latest(query, lines)
        for row in rows:
            tell(row)
        told = {(row.call_id, row.seq) for row in rows}
        if follow:
            async with aclosing(query.follow(position)) as coming:
                async for row in coming:
                    if (row.call_id, row.seq) not in told:  # stored between the two looks
                        tell(row)

    try:
        answered(store_url(store, config), ask)
    except KeyboardInterrupt:
        click.echo(err=True)


async def _latest(query: Query, count: int) -> list[Row]:
    """The facts of so many calls, in the order of time."""
    calls = await query.calls(limit=count) if count else []
    rows = [row for call in reversed(calls) for row in await query.events(call.call_id)]
    return sorted(rows, key=lambda row: row.at if isinstance(row.at, int | float) else 0.0)
