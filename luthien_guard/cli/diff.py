"""`luthien-guard diff`: what policies changed in an exchange."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from luthien_guard.cli.asking import answered, as_json, call_named, json_option, store_option, store_url
from luthien_guard.cli.output import paint
from luthien_guard.cli.terminal import fail, printable, say
from luthien_guard.query import Change, Diff, Query, pieces, unified

__all__ = ["command"]

_COLORS: Final = {"-": "red", "+": "green"}
_MARKS: Final = {"same": "{}", "removed": "[-{}-]", "added": "{{+{}+}}"}  # those of `git diff --word-diff`


@click.command("diff")
@click.argument("call")
@click.option("--words", is_flag=True, help="Mark the words: [-removed-] and {+added+}.")
@json_option
@store_option
def command(call: str, words: bool, json_: bool, store: str | None, config: Path | None) -> None:
    """What was changed between what came and what went on in CALL, part by part, with the policies that did it. Exit
    codes: 0 fine (also where nothing was changed), 1 no such call or one that cannot be read, 2 wrong usage or a store
    that cannot be asked."""

    async def ask(query: Query) -> Diff:
        call_id = await call_named(query, call)
        try:
            return await query.diff(call_id)
        except (ValueError, TypeError, KeyError, AttributeError):
            # Tampered with: nothing else writes such rows.
            fail(f"{call_id} cannot be read: see luthien-guard audit verify {call_id}", 1)

    found = answered(store_url(store, config), ask)
    if json_:
        as_json(asdict(found))
        return
    if not found and not found.notes:
        say("nothing was changed")
    for side, changes in (("request", found.request), ("response", found.response)):
        for change in changes:
            click.echo(printable(f"{side}: {change.part} {change.kind}{_by(change)}"))
            _show(change, words)
    for note in found.notes:
        say(f"note: {note}")


def _by(change: Change) -> str:
    return f" by {', '.join(change.policies)}" if change.policies else ""


def _show(change: Change, words: bool) -> None:
    if words and change.before is not None and change.after is not None:
        marked = "".join(_MARKS[each.kind].format(each.text) for each in pieces(change.before, change.after))
        say("\n".join(f"      {each}" for each in marked.split("\n")))
        return
    for each in _lines(change):
        paint(f"    {each}", _COLORS.get(each[0], "reset"))


def _lines(change: Change) -> list[str]:
    if change.before is not None and change.after is not None:
        return unified(change.before, change.after)
    mark, text = ("+", change.after) if change.before is None else ("-", change.before)
    return [f"{mark} {each}" for each in (text or "").split("\n")]
