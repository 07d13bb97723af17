"""What every policy must keep, checked on your own: `await check_policy(MyPolicy())`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from luthien_guard.testing.leaks import find_leaks
from luthien_guard.testing.likeness import Gist, asked, asked_loosely, differing, gist, gist_loosely, let_out
from luthien_guard.testing.places import answers_with, requests_with
from luthien_guard.testing.requests import conversation_for, request_for
from luthien_guard.testing.runs import Runs, run
from luthien_guard.testing.script import WIRE_FORMATS, Say, Script

__all__ = ["check_policy"]


async def check_policy(
    policy: Any,
    *,
    scripts: Mapping[str, Script] | None = None,
    never_leaves: Iterable[str] = (),
    never_sent: Iterable[str] = (),
    wire_formats: Iterable[str] = WIRE_FORMATS,
    cuts: Cuts = "some",
    **options: Any,
) -> None:
    """Raises AssertionError, saying which promise is broken and how, unless for every script of the catalogue and of
    `scripts` (name: script; add what your policy reacts to), in every wire format:

    * no hook raises, returns nonsense or hangs;
    * verdict, words and tool calls are the same for the stream, the body, and any cut of either, also when the same
      text comes in deltas of one character: a policy that looks for words across deltas needs a `lookahead` or
      `on_content_completed` (where text is blocked, more or less of what stood before it may have left, but nothing
      that the policy would block if it were the whole answer);
    * what is sent upstream is the same for the stream and the body, and says the same in every wire format;
    * no verdict comes when it can have no effect any more;
    * what leaves is legal in its wire format;
    * when upstream breaks off, nothing has left that the whole answer would not have begun with;
    * exchanges do not see each other, one after the other or at once;
    * in shadow, no byte changes;
    * none of the texts `never_leaves` can be read from an answer that says it: in any channel, choice, name or argument of
      a call, unknown field, spread over deltas or texts, or in escapes;
    * none of the texts `never_sent` is sent upstream, wherever a conversation says it: in the user's words, the system
      prompt, earlier calls and their results, the description of a tool;
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
        _same(f"script {name!r}", prompt, lambda run: (run.wire_format, run.stream), gist)
    await _check_requests(policy, {**options, "wire_formats": formats})
    for text in never_leaves:
        await _check_leaves(policy, text, formats, options)
    for text in never_sent:
        await _check_sent(policy, text, formats, options)
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
    enforced = _is_enforced(policy, options)
    try:
        runs = await run([policy, _Witness(closed)], script, cuts=cuts, **{**options, **more})
    except Exception as error:
        raise AssertionError(f"{what}: the guard raised {type(error).__name__}: {error}") from error
    for each in runs:
        errors = [record for record in each.records if record.type.value == "policy.error"]
        told = "; ".join(f"{record.details.get('hook')}: {record.details.get('error')}" for record in errors)
        _check(what, each, not errors, f"the policy failed: {told}")
        late = _ineffective(each) if enforced else None
        _check(what, each, late is None, f"{late} comes too late to have an effect")
        ends = closed.get(each.call_id, 0)
        _check(what, each, ends == 1, f"on_exchange_closed was called {ends} times")
    try:
        runs.assert_legal()
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from None
    return runs


def _is_enforced(policy: Any, options: Mapping[str, Any]) -> bool:
    mode = policy.get("mode", "enforce") if isinstance(policy, Mapping) else "enforce"
    return mode == "enforce" and options.get("mode", "enforce") == "enforce"


def _ineffective(run: Played) -> str | None:
    """A verdict that nobody could act on."""
    for record in run.records:
        if record.type.value == "policy.verdict" and not record.details["enforced"]:
            hint = " without hold = 'response'" * (record.details["hook"] == "on_response_completed")
            return f"{record.details['verdict']} from {record.details['hook']}{hint}"
    return None


async def _check_answer(
    what: str, policy: Any, script: Script, cuts: Cuts, options: Mapping[str, Any]
) -> None:
    runs = await _run(what, policy, script, cuts, options)
    _same_answer(what, runs, script)
    found = [*runs]
    for every in (1, 5):
        shorter = await _run(what, policy, script.split(every), "whole", options)
        both = Runs([*runs.only(cut="frame by frame"), *shorter])
        _same_answer(f"{what} in deltas of {every}", both, script)
        found += shorter
    await _check_let_out(what, policy, found, options)


def _same_answer(what: str, runs: Runs, script: Script) -> None:
    """Refusals are content in anthropic.messages: there is nothing to compare across wire formats."""
    _same(what, runs, lambda run: run.wire_format, gist)
    _same_request(what, runs, lambda run: run.wire_format, asked)
    _same_request(what, runs, lambda _: "", asked_loosely)
    if not any(isinstance(step, Say) and step.channel == "refusal" for step in script.steps):
        _same(what, runs, lambda _: "", gist_loosely)


def _same(what: str, runs: Runs, group: Callable[[Played], Any], gist: Callable[[Played], Gist]) -> None:
    """Every run says the same as the first of its group."""
    for before, each in _pairs(runs, group):
        told = f"{before.label}: {gist(before)}\n  {each.label}: {gist(each)}"
        alike = gist(before).like(gist(each))
        _check(
            what,
            each,
            alike,
            f"the result depends on how the answer came, or on the exchanges before it:\n  {told}",
        )


def _same_request(
    what: str, runs: Runs, group: Callable[[Played], Any], asked: Callable[[Played], list[Any]]
) -> None:
    for before, each in _pairs(runs, group):
        told = differing(asked(before), asked(each))
        against = f"what is sent upstream depends on how it is asked (against {before.label}): {told}"
        _check(what, each, not told, against)


def _pairs(runs: Runs, group: Callable[[Played], Any]) -> Iterator[tuple[Played, Played]]:
    """Each run, behind the first of its group."""
    first: dict[Any, Played] = {}
    for each in runs:
        yield first.setdefault(group(each), each), each


async def _check_let_out(what: str, policy: Any, runs: Iterable[Played], options: Mapping[str, Any]) -> None:
    """Whoever blocks a text may have let out some of it: play that as an answer of its own."""
    blocked = [each for each in runs if each.outcome.status.value == "blocked"]
    for (wire_format, head), by in {(each.wire_format, let_out(each)): each for each in blocked}.items():
        for script in () if head is None else (head, head.split(1)):
            only = {**options, "wire_formats": [wire_format]}
            alone = await _run(f"{what}, as far as it left", policy, script, "whole", only)
            objects = by.outcome.policy in {each.outcome.policy for each in alone}
            left = alone[0].upstream.text
            _check(
                what,
                by,
                not objects,
                f"{left!r} left, and is blocked when it comes alone: hold what is not decided",
            )


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
    for wire_format in options["wire_formats"]:
        conversation = {"wire_formats": [wire_format], "request": conversation_for(wire_format)}
        runs = await _run("a conversation", policy, script, "whole", {**options, **conversation})
        _same("a conversation", runs, lambda run: run.wire_format, gist)


async def _check_leaves(policy: Any, text: str, formats: Iterable[str], options: Mapping[str, Any]) -> None:
    for place, script in answers_with(text).items():
        spoken = [each for each in formats if each in script.wire_formats]
        if not spoken:
            continue
        runs = await _run(f"in {place}", policy, script, "whole", {**options, "wire_formats": spoken})
        try:
            runs.no_leak(text)
        except AssertionError as error:
            raise AssertionError(f"in {place}: {error}") from None


async def _check_sent(policy: Any, text: str, formats: Iterable[str], options: Mapping[str, Any]) -> None:
    script = Script().text("Hello.")
    for wire_format in formats:
        for place, request in requests_with(text, wire_format).items():
            only = {**options, "wire_formats": [wire_format], "request": request}
            for each in await _run(f"in {place}", policy, script, "whole", only):
                sent = json.dumps(each.upstream.requests, ensure_ascii=False).encode()
                _check(f"in {place}", each, not find_leaks(sent, text), f"{text!r} was sent upstream")


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
        request = request_for(wire_format, "Hello", stream=True, choices=script.choices)
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
            same = gist(played) == gist(alone[at]) and asked(played) == asked(alone[at])
            _check(
                f"exchanges {how}",
                played,
                same,
                f"an exchange depends on others: alone {gist(alone[at])}, {how} {gist(played)}; keep what belongs to "
                "one exchange in ctx.state(...) or ctx.scratchpad",
            )


def _check(what: str, run: Played, true: bool, message: str) -> None:
    if not true:
        raise AssertionError(f"{what}: {run.label}: {message}")
