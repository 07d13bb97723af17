"""An answer in every form, whole, cut, in other deltas, and broken off: what leaves is the same, or a beginning of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from luthien_guard.testing.cuts import Cuts
from luthien_guard.testing.exchange import Played
from luthien_guard.testing.likeness import let_out
from luthien_guard.testing.policy_check.agreement import same_answer
from luthien_guard.testing.policy_check.checked import check, run_checked
from luthien_guard.testing.runs import Runs
from luthien_guard.testing.script import Script
from luthien_guard.testing.transcript import Transcript

__all__ = ["check_answer", "check_breaks"]


async def check_answer(
    what: str, policy: Any, script: Script, cuts: Cuts, options: Mapping[str, Any]
) -> None:
    runs = await run_checked(what, policy, script, cuts, options)
    same_answer(what, runs, script)
    found = [*runs]
    for every in (1, 5):
        shorter = await run_checked(what, policy, script.split(every), "whole", options)
        both = Runs([*runs.only(cut="frame by frame"), *shorter])
        same_answer(f"{what} in deltas of {every}", both, script)
        found += shorter
    await _check_let_out(what, policy, found, options)


async def _check_let_out(what: str, policy: Any, runs: Iterable[Played], options: Mapping[str, Any]) -> None:
    """Whoever blocks a text may have let out some of it: play that as an answer of its own."""
    blocked = [each for each in runs if each.outcome.status.value == "blocked"]
    for (wire_format, head), by in {(each.wire_format, let_out(each)): each for each in blocked}.items():
        for script in () if head is None else (head, head.split(1)):
            only = {**options, "wire_formats": [wire_format]}
            alone = await run_checked(f"{what}, as far as it left", policy, script, "whole", only)
            objects = by.outcome.policy in {each.outcome.policy for each in alone}
            told = f"{alone[0].upstream.text!r} left, and is blocked when it comes alone: hold what is not decided"
            check(what, by, not objects, told)


async def check_breaks(what: str, policy: Any, script: Script, options: Mapping[str, Any]) -> None:
    """Break off after each step: what left must be a beginning of what the whole answer is."""
    if len(script.steps) > 12:
        return
    runs = await run_checked(what, policy, script, "whole", options, streamed=(True,))
    whole = {each.wire_format: each.transcript for each in runs}
    for at in range(1, len(script.steps)):
        head = Script(script.steps[:at], script.model).disconnect()
        for each in await run_checked(what, policy, head, "whole", options, streamed=(True,)):
            if each.outcome.status.value in ("blocked", "policy_error"):
                continue  # it ended with a verdict and its words: that is checked above
            _check_beginning(f"{what} cut after step {at}", each, whole[each.wire_format])


def _check_beginning(what: str, run: Played, full: Transcript) -> None:
    left = run.transcript
    begins = full.text.startswith(left.text) and full.reasoning.startswith(left.reasoning)
    told = f"{left.text!r} left, and the whole answer is {full.text!r}: hold text until it is decided"
    check(what, run, begins, told)
    calls = [(call.name, call.arguments) for call in left.tool_calls]
    allowed = [(call.name, call.arguments) for call in full.tool_calls]
    check(what, run, calls == allowed[: len(calls)], f"the calls {calls} left, of {allowed}")
