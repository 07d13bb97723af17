"""`luthien-guard diff`: what policies changed in an exchange."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from pathlib import Path

import click

from luthien_guard.cli.asking import answered, as_json, call_named, json_option, store_option, store_url
from luthien_guard.cli.terminal import say
from luthien_guard.query import Change, Diff, Query

__all__ = ["command"]


@click.command("diff")
@click.argument("call")
@json_option
@store_option
def command(call: str, json_: bool, store: str | None, config: Path | None) -> None:
    """What was changed between what came and what went on, part by part, with the policies that did it. Exit codes: 0
    fine, 1 no such call, 2 wrong usage."""

    async def ask(query: Query) -> Diff:
        return await query.diff(await call_named(query, call))

    found = answered(store_url(store, config), ask)
    if json_:
        as_json(asdict(found))
        return
    if not found:
        say("nothing was changed")
    for side, changes in (("request", found.request), ("response", found.response)):
        for change in changes:
            say(f"{side}: {change.part} {change.kind}{_by(change)}")
            say("\n".join(f"    {each}" for each in _lines(change)))


def _by(change: Change) -> str:
    return f" by {', '.join(change.policies)}" if change.policies else ""


def _lines(change: Change) -> list[str]:
    before, after = ((text or "").splitlines() for text in (change.before, change.after))
    return [each for each in difflib.ndiff(before, after) if not each.startswith("?")]
