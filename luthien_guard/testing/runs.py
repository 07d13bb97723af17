"""Runs a policy over scripts in every wire format, streamed and not, however cut, and says what must be true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from luthien_guard.guard import Guard
from luthien_guard.records import EventType, Record
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.cuts import Cut, Cuts, cuts_for
from luthien_guard.testing.exchange import Played, Upstream, play
from luthien_guard.testing.leaks import find_leaks
from luthien_guard.testing.released import had_before
from luthien_guard.testing.rendering import render
from luthien_guard.testing.requests import request_for
from luthien_guard.testing.script import WIRE_FORMATS, Script
from luthien_guard.testing.transcript import Called

__all__ = ["Runs", "run"]

#: Seconds after which a guard remembers no verdict: each run is decided anew.
FORGOTTEN = 86_400.0


async def run(
    policies: Any,
    script: Script | Sequence[Script],
    *,
    prompt: str = "Hello",
    request: Mapping[str, Any] | None = None,
    exchange: Mapping[str, Any] | None = None,
    wire_formats: Iterable[str] | None = None,
    streamed: Iterable[bool] = (True, False),
    cuts: Cuts | Iterable[Cut] = "some",
    **options: Any,
) -> Runs:
    """Play `script` through a guard with `policies`, once for each wire format, streamed and not, and each cut.

    `policies`: one or several of what `Guard` takes. Several scripts answer one attempt each (`Retry`). `request`
    adds to the request that is made up from `prompt`; `exchange` says who asks (`ctx.exchange`): `session_id`, `user_id`,
    `api_key_hash`. `cuts`: "whole" (fast), "some", or "every" byte. Everything
    else goes to `Guard`: `mode`, `on_block`, `limits`, `judge`, `clock` (default: a virtual one).
    """
    scripts = [script] if isinstance(script, Script) else list(script)
    listed = list(policies) if isinstance(policies, (list, tuple)) else [policies]
    clock = options.setdefault("clock", VirtualClock())
    guard = Guard(listed, **options)
    found: list[Played] = []
    for wire_format in scripts[0].wire_formats if wire_formats is None else _known(wire_formats):
        for stream in streamed:
            plain = request_for(wire_format, prompt, stream=stream, choices=scripts[0].choices)
            body = {**plain, **(request or {})}
            rendered = render(scripts[0], wire_format, stream=stream).body
            for cut in cuts_for(cuts, rendered):
                if isinstance(clock, VirtualClock):
                    clock.now += FORGOTTEN
                else:
                    guard = Guard(listed, **options)
                found.append(
                    await play(
                        guard, scripts, wire_format, stream=stream, cut=cut, request=body, exchange=exchange
                    )
                )
    return Runs(found)


def _known(wire_formats: Iterable[str]) -> list[str]:
    found = list(wire_formats)
    if isinstance(wire_formats, str) or not set(found) <= set(WIRE_FORMATS):
        raise ValueError(f"wire_formats is {wire_formats!r}: give a list of {', '.join(WIRE_FORMATS)}")
    return found


class Runs(Sequence[Played]):
    """Several runs of one script. Every assertion holds for each of them, or says which one it fails for and why.

    Properties (`text`, `tool_calls`, ...) are what all runs agree on; they raise AssertionError where runs differ.
    """

    def __init__(self, runs: Iterable[Played]) -> None:
        self._runs = tuple(runs)
        assert self._runs, "nothing was run"

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Played]:
        return iter(self._runs)

    def __getitem__(self, at: Any) -> Any:
        return Runs(self._runs[at]) if isinstance(at, slice) else self._runs[at]

    def only(
        self, *, wire_format: str | None = None, streamed: bool | None = None, cut: str | None = None
    ) -> Runs:
        """The runs that match. Raises AssertionError when there are none."""
        return Runs(
            each
            for each in self._runs
            if wire_format in (None, each.wire_format)
            and streamed in (None, each.stream)
            and cut in (None, each.cut)
        )

    # -- what all runs agree on -----------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """The text of the channel content, as the client reads it; of the first run, where only white space differs
        (explanations stand in blocks of their own in some wire formats)."""
        texts = [each.transcript.text for each in self._runs]
        self._agreed("text", [" ".join(text.split()) for text in texts])
        return texts[0]

    @property
    def reasoning(self) -> str:
        """The reasoning that all runs agree on."""
        return str(self._agreed("reasoning", [each.transcript.reasoning for each in self._runs]))

    @property
    def tool_calls(self) -> tuple[tuple[str, Any], ...]:
        """(name, arguments) of each call; arguments are parsed where they are JSON."""
        found: tuple[tuple[str, Any], ...] = self._agreed(
            "tool calls", [tuple(map(_named, each.transcript.tool_calls)) for each in self._runs]
        )
        return found

    @property
    def outcome(self) -> Any:
        """Its `status`, `policy` and `reason`."""
        return self._agreed("outcome", [each.outcome for each in self._runs])

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self._agreed("status", [each.status for each in self._runs]))

    @property
    def upstream(self) -> Upstream:
        """Of the first run: what upstream was asked and what it said."""
        return self._runs[0].upstream

    def _agreed(self, what: str, values: list[Any]) -> Any:
        for run, value in zip(self._runs, values, strict=True):
            if value != values[0]:
                first = self._runs[0].label
                raise AssertionError(
                    f"the {what} differs:\n  {first}: {values[0]!r}\n  {run.label}: {value!r}"
                )
        return values[0]

    # -- assertions -----------------------------------------------------------------------------------------------

    def assert_blocked(
        self, policy: str | None = None, *, reason__contains: str = "", message__contains: str = ""
    ) -> Runs:
        """A policy's verdict (or its failure) took something away, by this policy, for this reason; and what left
        is a legal answer that says `message__contains`."""
        for run in self._runs:
            verdicts = [each for each in run.records if _is_enforced_verdict(each)]
            told = [f"{each.policy}: {_reason(each)}" for each in verdicts]
            by = [each for each in verdicts if policy in (None, each.policy)]
            matching = any(reason__contains in _reason(each) for each in by)
            wanted = f"by {policy or 'any policy'}" + f" for {reason__contains!r}" * bool(reason__contains)
            _check(run, matching, f"not blocked {wanted}; verdicts: {told or 'none'}")
            status = run.outcome.status.value
            _check(run, status in ("blocked", "policy_error"), f"the outcome is {status}")
            said = message__contains.encode() in run.body
            _check(run, said, f"the client is not told {message__contains!r}")
        return self.assert_legal()

    def assert_released(self, *texts: str, tool_calls: Sequence[str] | None = None) -> Runs:
        """The answer left, whole and legal, with these texts and (by name) exactly these tool calls."""
        for run in self._runs:
            status, answer = run.outcome.status.value, run.transcript
            _check(run, status == "success", f"the outcome is {status}: {run.outcome.reason}")
            _check(run, answer.complete, "the answer has no end")
            said = answer.text + answer.refusal + answer.reasoning
            for text in texts:
                _check(run, text in said, f"{text!r} did not leave; what left is {said!r}")
            names = [each.name for each in answer.tool_calls]
            if tool_calls is not None:
                _check(run, names == list(tool_calls), f"the tool calls {names} left")
        return self.assert_legal()

    def assert_unchanged(self) -> Runs:
        """Every byte left as it came."""
        for run in self._runs:
            came, left = run.upstream.sent, run.body
            at = next(
                (at for at, (a, b) in enumerate(zip(came, left, strict=False)) if a != b),
                min(len(came), len(left)),
            )
            around = slice(max(at - 30, 0), at + 30)
            _check(run, came == left, f"changed at byte {at}: {came[around]!r} left as {left[around]!r}")
        return self

    def assert_legal(self) -> Runs:
        """What left keeps the grammar of its wire format, as far as upstream itself did."""
        for run in self._runs:
            if run.outcome.status.value in ("success", "blocked", "policy_error"):
                own = set(run.upstream.transcript.problems) if run.upstream.called else set[str]()
                problems = [each for each in run.transcript.problems if each not in own]
                _check(run, not problems, f"what left breaks the wire format: {'; '.join(problems)}")
        return self

    def assert_outcome(
        self,
        status: Literal["success", "blocked", "upstream_error", "policy_error", "cancelled", "timeout"],
        policy: str | None = None,
    ) -> Runs:
        """Every exchange ended so, by `policy` if one is named."""
        for run in self._runs:
            got = run.outcome
            _check(run, got.status.value == status, f"the outcome is {got.status.value}: {got.reason}")
            _check(run, policy in (None, got.policy), f"the outcome is {got.policy}'s")
        return self

    def no_leak(self, marker: str) -> Runs:
        """`marker` cannot be read from any byte that left: escaped, in JSON in JSON, or spread over events."""
        for run in self._runs:
            places = find_leaks(run.body, marker, run.wire_format)
            _check(run, not places, f"{marker!r} leaked in {', '.join(places[:3])}")
        return self

    def released_before(self, earlier: str, later: str) -> Runs:
        """The client had `earlier` when upstream had not yet said `later`: nothing is held longer than it must be.
        Only streams can show this; other runs are passed over."""
        streams = [each for each in self._runs if each.events and each.cut.startswith("frame by frame")]
        assert streams, "no run was streamed frame by frame: released_before has nothing to look at"
        for run in streams:
            if "late" not in run.cut:
                told = f"{earlier!r} left only after upstream said {later!r}"
                _check(run, had_before(run, earlier, later), told)
        return self


def _named(call: Called) -> tuple[str, Any]:
    try:
        return call.name, call.parsed
    except ValueError:
        return call.name, call.arguments


def _is_enforced_verdict(record: Record) -> bool:
    """Or a failure that ended as one."""
    of_policy = record.type in (EventType.VERDICT, EventType.POLICY_ERROR)
    return of_policy and bool(record.details.get("enforced", True))


def _reason(record: Record) -> str:
    return str(record.details.get("reason") or record.details.get("error") or "")


def _check(run: Played, true: bool, message: str) -> None:
    if not true:
        raise AssertionError(f"{run.label}: {message}")
