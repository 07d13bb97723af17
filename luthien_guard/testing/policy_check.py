"""What every policy must keep, checked on your own: `await check_policy(MyPolicy())`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from typing import Any

import anyio
import anyio.lowlevel

from luthien_guard.exchange import Outcome
from luthien_guard.guard import Guard
from luthien_guard.policy import Policy, PolicyContext, hookimpl
from luthien_guard.testing.catalogue import BROKEN, ORDINARY, PROMPTS
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.cuts import Cut, Cuts
from luthien_guard.testing.exchange import Played, play
from luthien_guard.testing.requests import request_for
from luthien_guard.testing.runs import Runs, run
from luthien_guard.testing.script import WIRE_FORMATS, Say, Script

__all__ = ["check_policy"]


async def check_policy(
    policy: Any,
    *,
    scripts: Mapping[str, Script] | None = None,
    wire_formats: Iterable[str] = WIRE_FORMATS,
    cuts: Cuts = "some",
    **options: Any,
) -> None:
    """Raises AssertionError, saying which promise is broken and how, unless for every script of the catalogue and of
    `scripts` (name: script; add what your policy reacts to), in every wire format:

    * no hook raises, returns nonsense or hangs;
    * verdict, words and tool calls are the same for the stream, the body, and any cut of either, also when the same
      text comes in deltas of one character: a policy that looks for words across deltas needs a `lookahead` or
      `on_content_completed` (where text is blocked, more or less of what stood before it may have left);
    * what leaves is legal in its wire format;
    * when upstream breaks off, nothing has left that the whole answer would not have begun with;
    * exchanges do not see each other, one after the other or at once;
    * in shadow, no byte changes;
    * `on_exchange_closed` comes exactly once.

    `policy` is what `Guard` takes; `options` go to `Guard` (`judge`, `limits`, ...).
    """
    formats = tuple(wire_formats)
    everything = {**ORDINARY, **(scripts or {})}
    for name, script in everything.items():
        spoken = {**options, "wire_formats": [each for each in formats if each in script.wire_formats]}
        if not spoken["wire_formats"]:
            continue
        await _check_answer(f"script {name!r}", policy, script, cuts, spoken)
        await _check_breaks(f"script {name!r}", policy, script, spoken)
        await _check_shadow(policy, script, spoken)
    for name, script in BROKEN.items():
        runs = await _run(f"script {name!r}", policy, script, cuts, {**options, "wire_formats": formats})
        # a verdict that waits may or may not come before upstream breaks off
        prompt = Runs(each for each in runs if "late" not in each.cut)
        _same(f"script {name!r}", prompt, lambda run: (run.wire_format, run.stream), _gist)
    await _check_requests(policy, {**options, "wire_formats": formats})
    for wire_format in formats:
        sayable = [script for script in everything.values() if wire_format in script.wire_formats]
        await _check_apart(policy, sayable, wire_format, options)


class _Witness(Policy):
    """Stands behind the policy and counts the ends."""

    def __init__(self, closed: dict[str, int]) -> None:
        self._closed_by_call = (closed.__setitem__, closed.get)

    @hookimpl
    def on_exchange_closed(self, outcome: Outcome, ctx: PolicyContext) -> None:
        put, get = self._closed_by_call
        put(ctx.call_id, get(ctx.call_id, 0) + 1)


async def _run(
    what: str,
    policy: Any,
    script: Script,
    cuts: Cuts | Iterable[Cut],
    options: Mapping[str, Any],
    **more: Any,
) -> Runs:
    """Run and check what holds for every run."""
    closed: dict[str, int] = {}
    try:
        runs = await run([policy, _Witness(closed)], script, cuts=cuts, **{**options, **more})
    except Exception as error:
        raise AssertionError(f"{what}: the guard raised {type(error).__name__}: {error}") from error
    for each in runs:
        errors = [record for record in each.records if record.type.value == "policy.error"]
        told = "; ".join(f"{record.details.get('hook')}: {record.details.get('error')}" for record in errors)
        _check(what, each, not errors, f"the policy failed: {told}")
        ends = closed.get(each.call_id, 0)
        _check(what, each, ends == 1, f"on_exchange_closed was called {ends} times")
    try:
        runs.assert_legal()
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from None
    return runs


async def _check_answer(
    what: str, policy: Any, script: Script, cuts: Cuts, options: Mapping[str, Any]
) -> None:
    runs = await _run(what, policy, script, cuts, options)
    _same_answer(what, runs, script)
    for every in (1, 5):
        shorter = await _run(what, policy, script.split(every), "whole", options)
        both = Runs([*runs.only(cut="frame by frame"), *shorter])
        _same_answer(f"{what} in deltas of {every}", both, script)


def _same_answer(what: str, runs: Runs, script: Script) -> None:
    """To the letter within a wire format; across them but for white space, since explanations stand in blocks of their
    own in some and in the text in others. Refusals are content in anthropic.messages: there is nothing to compare."""
    _same(what, runs, lambda run: run.wire_format, _gist)
    if not any(isinstance(step, Say) and step.channel == "refusal" for step in script.steps):
        _same(what, runs, lambda _: "", _loosely)


def _same(
    what: str, runs: Runs, group: Callable[[Played], Any], gist: Callable[[Played], tuple[Any, ...]]
) -> None:
    """Every run says the same as the first of its group."""
    first: dict[Any, Played] = {}
    for each in runs:
        before = first.setdefault(group(each), each)
        _check(
            what,
            each,
            gist(before) == gist(each) or _ended_alike(gist(before), gist(each)),
            f"the result depends on how the answer came:\n  {before.label}: {gist(before)}\n  {each.label}: {gist(each)}",
        )


def _gist(run: Played) -> tuple[Any, ...]:
    """What must not depend on the wire format, on streaming, or on cuts."""
    answer = run.transcript
    calls = tuple((call.name, _value(call)) for call in answer.tool_calls)
    spoken = "".join((answer.text, answer.refusal))  # anthropic.messages says refusals as content
    return run.outcome.status.value, run.outcome.policy, spoken, answer.reasoning, calls


def _loosely(run: Played) -> tuple[Any, ...]:
    status, policy, spoken, reasoning, calls = _gist(run)
    return status, policy, " ".join(spoken.split()), reasoning, calls


def _ended_alike(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Text that is blocked ends the answer, and how much of the text before it had left by then does depend on how it
    came: the same verdict and the same words for it, after more or less of the same text, and no calls."""
    if one[0] not in ("blocked", "policy_error") or one[:2] != other[:2] or one[4] or other[4]:
        return False
    return _extends(one[2], other[2]) and _extends(one[3], other[3])


def _extends(one: str, other: str) -> bool:
    """Without their common ending, one is the beginning of the other."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(reversed(one), reversed(other), strict=False))
    ending = sum(1 for _ in same)
    heads = sorted((one[: len(one) - ending], other[: len(other) - ending]), key=len)
    return heads[1].startswith(heads[0])


def _value(call: Any) -> Any:
    try:
        return call.parsed
    except ValueError:
        return call.arguments


async def _check_breaks(what: str, policy: Any, script: Script, options: Mapping[str, Any]) -> None:
    """Break off after each step: what left must be a beginning of what the whole answer is."""
    if len(script.steps) > 12:
        return
    whole = {
        each.wire_format: each
        for each in await _run(what, policy, script, "whole", options, streamed=(True,))
    }
    for at in range(1, len(script.steps)):
        head = Script(script.steps[:at], script.model).disconnect()
        for each in await _run(what, policy, head, "whole", options, streamed=(True,)):
            full, left = whole[each.wire_format].transcript, each.transcript
            if each.outcome.status.value in ("blocked", "policy_error"):
                continue  # it ended with a verdict and its words: that is checked above
            _check(
                f"{what} cut after step {at}",
                each,
                full.text.startswith(left.text) and full.reasoning.startswith(left.reasoning),
                f"{left.text!r} left, and the whole answer is {full.text!r}: hold text until it is decided",
            )
            calls = [(call.name, call.arguments) for call in left.tool_calls]
            allowed = [(call.name, call.arguments) for call in full.tool_calls]
            _check(
                f"{what} cut after step {at}",
                each,
                calls == allowed[: len(calls)],
                f"the calls {calls} left, of {allowed}",
            )


async def _check_requests(policy: Any, options: Mapping[str, Any]) -> None:
    script = Script().text("Hello.")
    for prompt in PROMPTS:
        runs = await _run(f"prompt {prompt!r}", policy, script, "whole", {**options, "prompt": prompt})
        _same_answer(f"prompt {prompt!r}", runs, script)


async def _check_shadow(policy: Any, script: Script, options: Mapping[str, Any]) -> None:
    shadow: dict[str, Any] = {**options, "mode": "observe"}
    runs = await run(policy, script, cuts="whole", **shadow)
    try:
        runs.assert_unchanged()
    except AssertionError as error:
        raise AssertionError(f"in shadow mode: {error}") from None


async def _check_apart(
    policy: Any, scripts: list[Script], wire_format: str, options: Mapping[str, Any]
) -> None:
    """The same exchanges one after the other and all at once, on one guard, give the same."""
    options = {"clock": VirtualClock(), **options}
    cut = Cut("frame by frame", list)

    async def one(guard: Guard, at: int, script: Script, found: dict[int, Played]) -> None:
        request = request_for(wire_format, "Hello", stream=True)
        await anyio.lowlevel.checkpoint()
        found[at] = await play(guard, [script], wire_format, stream=True, cut=cut, request=request)

    alone: dict[int, Played] = {}
    for at, script in enumerate(scripts):
        await one(Guard([policy], **options), at, script, alone)
    together: dict[int, Played] = {}
    guard = Guard([policy], **options)
    async with anyio.create_task_group() as tasks:
        for at, script in enumerate(scripts):
            tasks.start_soon(one, guard, at, script, together)
    again: dict[int, Played] = {}
    for at, script in enumerate(scripts):
        await one(guard, at, script, again)
    for how, found in (("at once", together), ("once more", again)):
        for at, played in found.items():
            same = _gist(played) == _gist(alone[at])
            _check(
                f"exchanges {how}",
                played,
                same,
                f"an exchange depends on others: alone {_gist(alone[at])}, {how} {_gist(played)}; keep what belongs to "
                "one exchange in ctx.state(...) or ctx.scratchpad",
            )


def _check(what: str, run: Played, true: bool, message: str) -> None:
    if not true:
        raise AssertionError(f"{what}: {run.label}: {message}")
