"""Runs of one script say the same, however the answer came."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from luthien_guard.testing.exchange import Played
from luthien_guard.testing.likeness import Gist, asked, asked_loosely, differing, gist, gist_loosely
from luthien_guard.testing.policy_check.checked import check
from luthien_guard.testing.runs import Runs
from luthien_guard.testing.script import Say, Script

__all__ = ["same", "same_answer"]


def same_answer(what: str, runs: Runs, script: Script) -> None:
    """Refusals are content in anthropic.messages: there is nothing to compare across wire formats."""
    same(what, runs, lambda run: run.wire_format, gist)
    _same_request(what, runs, lambda run: run.wire_format, asked)
    _same_request(what, runs, lambda _: "", asked_loosely)
    if not any(isinstance(step, Say) and step.channel == "refusal" for step in script.steps):
        same(what, runs, lambda _: "", gist_loosely)


def same(what: str, runs: Runs, group: Callable[[Played], Any], gist: Callable[[Played], Gist]) -> None:
    """Every run says the same as the first of its group."""
    for before, each in _pairs(runs, group):
        told = f"{before.label}: {gist(before)}\n  {each.label}: {gist(each)}"
        alike = gist(before).like(gist(each))
        why = f"the result depends on how the answer came, or on the exchanges before it:\n  {told}"
        check(what, each, alike, why)


def _same_request(
    what: str, runs: Runs, group: Callable[[Played], Any], asked: Callable[[Played], list[Any]]
) -> None:
    for before, each in _pairs(runs, group):
        told = differing(asked(before), asked(each))
        against = f"what is sent upstream depends on how it is asked (against {before.label}): {told}"
        check(what, each, not told, against)


def _pairs(runs: Runs, group: Callable[[Played], Any]) -> Iterator[tuple[Played, Played]]:
    """Each run, behind the first of its group."""
    first: dict[Any, Played] = {}
    for each in runs:
        yield first.setdefault(group(each), each), each
