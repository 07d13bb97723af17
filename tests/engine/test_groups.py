"""Policies of a group are asked at once, and have a say only."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from luthien_guard import (
    Abort,
    Block,
    ChatRequest,
    ConfigError,
    ContentCompleted,
    Guard,
    Policy,
    PolicyContext,
    ResponseCompleted,
    ToolCall,
    hookimpl,
)
from luthien_guard.engine.plan import Plan
from luthien_guard.records import EventType
from luthien_guard.testing import Script, run
from luthien_guard.testing.cuts import cuts_for
from luthien_guard.testing.exchange import play

SCRIPT = Script().text("Hello.").tool_call("ls", {"folder": "/srv"})


class Meeting:
    """Where two come together: neither goes on before the other is there."""

    def __init__(self) -> None:
        self.there = 0
        self.event: anyio.Event | None = None
        self.met = 0

    async def wait(self) -> None:
        self.there += 1
        if self.there == 1:
            self.event = anyio.Event()
            await self.event.wait()
            self.met += 1
            return
        assert self.event is not None
        self.event.set()
        self.there = 0


class Meets(Policy):
    waits = True

    def __init__(self, meeting: Meeting) -> None:
        self.meeting = meeting


class OnRequest(Meets):
    @hookimpl
    async def on_request_started(self, request: ChatRequest) -> None:
        await self.meeting.wait()


class OnText(Meets):
    channels = frozenset({"content"})

    @hookimpl
    async def on_content_completed(self, content: ContentCompleted) -> None:
        await self.meeting.wait()


class OnCall(Meets):
    @hookimpl
    async def on_tool_call_completed(self, call: ToolCall) -> None:
        await self.meeting.wait()


class OnResponse(Meets):
    hold = "response"

    @hookimpl
    async def on_response_completed(self, response: ResponseCompleted) -> None:
        await self.meeting.wait()


class Judge(Policy):
    """Says `verdict` of each call, after so many turns of the loop."""

    waits = True

    def __init__(self, verdict: Any = None, turns: int = 0) -> None:
        self.verdict = verdict
        self.turns = turns

    @hookimpl
    async def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> Any:
        for _ in range(self.turns):
            await anyio.lowlevel.checkpoint()
        ctx.record("judged", arguments=call.arguments)
        return self.verdict


class Rewrites(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> ToolCall:
        return call.replace(arguments='{"folder": "/tmp"}')


def group(*policies: Policy, **settings: Any) -> list[dict[str, Any]]:
    return [{"use": each, "name": f"p{at}", "group": "g", **settings} for at, each in enumerate(policies)]


@pytest.mark.parametrize("kind", [OnRequest, OnText, OnCall, OnResponse])
async def test_they_are_asked_at_once(kind: Any) -> None:
    meeting = Meeting()
    with anyio.fail_after(30):
        runs = await run(group(kind(meeting), kind(meeting)), SCRIPT, cuts="whole")
    runs.assert_unchanged()
    assert meeting.met == len(runs)


async def test_several_groups_are_asked_in_turn() -> None:
    first, second = Meeting(), Meeting()
    members = [(first, "a"), (first, "a"), (second, "b"), (second, "b")]
    policies = [
        {"use": OnCall(meeting), "name": f"p{at}", "group": name}
        for at, (meeting, name) in enumerate(members)
    ]
    with anyio.fail_after(30):
        runs = await run(policies, SCRIPT, cuts="whole")
    runs.assert_unchanged()
    assert first.met == second.met == len(runs)


async def test_of_several_that_object_the_first_counts_however_long_it_takes() -> None:
    slow, fast = Judge(Block("slow"), turns=5), Judge(Block("fast"))
    runs = await run(group(slow, fast, Judge()), SCRIPT)
    runs.assert_blocked("p0", reason__contains="slow").no_leak("/srv")
    for each in runs:
        verdicts = [record for record in each.records if record.type is EventType.VERDICT]
        assert {record.policy for record in verdicts} == {"p0", "p1"}


async def test_an_abort_ends_the_answer() -> None:
    runs = await run(group(Judge(), Judge(Abort("enough"))), SCRIPT)
    runs.assert_blocked("p1", reason__contains="enough").no_leak("/srv")


@pytest.mark.parametrize("change", ["words", ToolCall("1", "ls", "{}"), 7])
async def test_they_change_nothing(change: Any) -> None:
    runs = await run(group(Judge(), Judge(change)), SCRIPT)
    runs.assert_outcome("policy_error").no_leak("/srv")
    for each in runs:
        (failure,) = [record for record in each.records if record.type is EventType.POLICY_ERROR]
        assert failure.policy == "p1"
        assert "PolicyError: returned" in failure.details["error"]


async def test_a_failure_may_be_forgiven() -> None:
    (await run(group(Judge(), Judge(7), on_error="allow"), SCRIPT)).assert_unchanged()


async def test_each_has_a_deadline_of_its_own() -> None:
    class Hangs(Judge):
        @hookimpl
        async def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> Any:
            await anyio.sleep_forever()

    policies = group(Judge(), Hangs())
    policies[1]["timeout"] = 0.01
    runs = await run(policies, SCRIPT, cuts="whole", clock=anyio.current_time)
    runs.assert_outcome("policy_error").no_leak("/srv")
    assert {each.outcome.policy for each in runs} == {"p1"}


async def test_they_see_what_was_left_before_them() -> None:
    runs = await run([Rewrites(), *group(Judge(), Judge())], SCRIPT, cuts="whole")
    assert runs.tool_calls == (("ls", {"folder": "/tmp"}),)
    for each in runs:
        judged = [record for record in each.records if record.type is EventType.POLICY_RECORD]
        assert [record.details["arguments"] for record in judged] == ['{"folder": "/tmp"}'] * 2


async def test_who_only_looks_on_has_no_say() -> None:
    shadow: dict[str, Any] = {"use": Judge(Block("no")), "name": "s", "group": "g", "mode": "shadow"}
    (await run([*group(Judge()), shadow], SCRIPT)).assert_unchanged()
    (await run(group(Judge(Block("no")), Judge(Block("no"))), SCRIPT, mode="observe")).assert_unchanged()


async def test_what_was_blocked_is_remembered() -> None:
    asked: list[str] = []

    class Remembers(Policy):
        waits = True
        remember = 60.0

        @hookimpl
        async def on_tool_call_completed(self, call: ToolCall) -> Any:
            asked.append(call.arguments)
            return Block("no")

    guard = Guard(group(Judge(), Remembers()))
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    (cut,) = cuts_for("whole", b"")
    for _ in range(2):
        played = await play(guard, [SCRIPT], "openai.chat", stream=False, cut=cut, request=body)
        assert played.outcome.policy == "p1"
        assert b"/srv" not in played.body
    assert len(asked) == 1


def test_all_of_them_hold() -> None:
    plan = Plan(group(Judge(), Judge()))
    assert plan.bounds() == [("p0", "tool calls: whole"), ("p1", "tool calls: whole")]
    assert plan.version != Plan(group(Judge(), Judge(), group=None)).version


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        (group(Judge(), group=""), "group of judge is ''"),
        (group(Judge(), group=["g"]), "group of judge is"),
        (group(Rewrites()), "waits for nobody"),
        ([*group(Judge()), Rewrites(), *group(Judge(), name="p1")], "have to stand together"),
    ],
)
def test_slips_are_told(policies: list[Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Guard(policies)
