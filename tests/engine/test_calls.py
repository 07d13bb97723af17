"""Tool calls through the chain: whole or not at all, each judged once, order kept."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from luthien_guard.control_plane.service import StreamingContext
from luthien_guard.engine.plan import Plan
from luthien_guard.engine.verdicts import VerdictCache
from luthien_guard.engine.waits import Wait
from luthien_guard.events import (
    Chunk,
    ContentChunk,
    ContentCompleted,
    ResponseFailed,
    ToolCall,
    ToolCallChunk,
)
from luthien_guard.exchange import Outcome, OutcomeStatus, RequestMetadata
from luthien_guard.policy import Abort, Block, Policy, PolicyContext, Retry, hookimpl
from luthien_guard.records import EventType
from luthien_guard.testing import Script, run
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.script import WIRE_FORMATS
from tests.engine.drive import Bench, Limits, Run
from tests.engine.lines import wire

pytestmark = pytest.mark.anyio


class Calls(Policy):
    def __init__(self, does: Any, remember: float = 0.0) -> None:
        self._does = does
        self.remember = remember

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Any:
        return self._does(call)


class Judge(Policy):
    """Waits for an event of each call before it decides."""

    waits = True

    def __init__(self, does: Any) -> None:
        self._does = does

    @hookimpl
    async def on_tool_call_completed(self, call: ToolCall) -> Any:
        return await self._does(call)


def no_rm(call: ToolCall) -> Block | None:
    return Block("rm", "NO") if "rm" in call.arguments else None


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (Block, "returned the class Block, not what a call of it makes"),
        (ToolCall("1", "ls", {"path": "/"}), "returned ToolCall whose `arguments` is dict, not str"),  # type: ignore[arg-type]
        (7, "returned int, not a ToolCall, a str or a verdict"),
    ],
)
async def test_who_returned_what_it_may_not_is_told_what_is_wrong_with_it(result: Any, said: str) -> None:
    script = Script().tool_call("ls", {})
    runs = await run(Calls(lambda call: result), script, cuts="whole")
    runs.assert_outcome("policy_error")
    for each in runs:
        (failure,) = [record for record in each.records if record.type is EventType.POLICY_ERROR]
        assert said in failure.details["error"]


async def test_a_call_is_held_until_it_is_whole() -> None:
    size = len(wire({"call": "l"}))
    run = await Bench([Calls(no_rm)]).run({"call": "l"}, {"call": "s"}, {"called": "0"}, step=size)
    left = [len(release.items) for release in run.releases]
    assert left[:2] == [0, 0]
    assert sum(left) == 3


async def test_an_allowed_call_leaves_byte_for_byte() -> None:
    raw = wire({"call": "l"}, {"text": "t", "id": "t"}, {"call": "s"}, {"called": "0"}, {"finish": "stop"})
    assert (await Bench([Calls(no_rm)]).run(raw=raw)).data == raw
    assert (await Bench([Calls(no_rm)]).run(raw=raw, step=1)).data == raw


async def test_a_blocked_call_is_an_explanation_in_its_place_and_the_rest_goes_on() -> None:
    run = await Bench([Calls(no_rm)]).run(
        {"text": "a", "id": "t"},
        {"call": "r", "id": "1"},
        {"call": "ls", "id": "2"},
        {"call": "m", "id": "1"},
        {"called": "1"},
        {"called": "2"},
        {"finish": "stop"},
    )
    assert run.seen[:3] == [{"text": "a", "id": "t"}, {"text": "NO"}, {"call": "ls", "id": "2"}]
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.BLOCKED
    assert run.outcome.policy == "calls"


async def test_explanations_come_first_where_the_format_wants_calls_last() -> None:
    bench = Bench([Calls(no_rm)], calls_last=True)
    chunks = [{"call": "ls", "id": "1"}, {"called": "1"}, {"call": "rm", "id": "2"}, {"called": "2"}]
    run = await bench.run(*chunks, {"finish": "stop"}, step=len(wire({"call": "l"})))
    assert sum(1 for release in run.releases if release.items) <= 2  # the calls leave in one batch
    assert {"call": "ls", "id": "1"} in run.seen


async def test_a_call_can_be_changed_or_replaced_by_text() -> None:
    run = await Bench([Calls(lambda call: call.replace(arguments="safe"))]).run(
        {"call": "r"}, {"call": "m"}, {"called": "0"}
    )
    assert [each.get("call") for each in run.seen[:2]] == ["safe", ""]
    run = await Bench([Calls(lambda call: "not today")]).run({"call": "rm"}, {"called": "0"})
    assert run.text == "not today"


async def test_a_changed_call_is_what_the_next_policy_sees() -> None:
    seen: list[str] = []
    policies = [
        Calls(lambda call: call.replace(arguments="new")),
        Calls(lambda call: seen.append(call.arguments)),
    ]
    await Bench(policies).run({"call": "old"}, {"called": "0"})
    assert seen == ["new"]


async def test_fragments_can_be_changed_as_they_stream() -> None:
    class Upper(Policy):
        @hookimpl
        def on_tool_call_chunk(self, chunk: ToolCallChunk) -> ToolCallChunk:
            return chunk.replace(text=chunk.text.upper())

    size = len(wire({"call": "a"}))
    run = await Bench([Upper()]).run({"call": "a"}, {"call": "b"}, {"called": "0"}, step=size)
    assert [each.get("call") for each in run.seen[:2]] == ["A", "B"]
    assert not run.releases[0].items  # a call leaves whole


async def test_a_cut_inside_a_call_is_an_error_and_no_part_of_it_leaves() -> None:
    run = await Bench([Calls(lambda _: None)]).run({"text": "a", "id": "t"}, {"call": "r"})
    assert run.seen == [{"text": "a", "id": "t"}, {"error": "upstream_error"}]
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.UPSTREAM_ERROR


async def test_a_judge_that_fails_blocks_that_call() -> None:
    def fail(call: ToolCall) -> None:
        raise ValueError("no verdict")

    run = await Bench([Calls(fail)]).run({"call": "ls"}, {"called": "0"}, {"finish": "stop"})
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.POLICY_ERROR
    assert all("call" not in each for each in run.seen)
    assert run.seen[-1] == {"finish": "stop"}  # the answer goes on


async def test_verdicts_that_wait_run_concurrently_and_leave_in_order() -> None:
    started: list[str] = []
    both = anyio.Event()

    async def judge(call: ToolCall) -> Any:
        started.append(call.arguments)
        if len(started) == 2:
            both.set()
        await both.wait()  # would never end if the calls were judged one after the other
        return no_rm(call)

    run = await Bench([Judge(judge)]).run(
        {"call": "ls", "id": "1"},
        {"call": "rm", "id": "2"},
        {"called": "2"},
        {"called": "1"},
        {"finish": "stop"},
    )
    assert [each.get("call", each.get("text")) for each in run.seen[:2]] == ["ls", "NO"]


async def test_the_record_says_how_long_each_hook_waited() -> None:
    async def judge(call: ToolCall) -> None:
        await anyio.lowlevel.checkpoint()

    run = await Bench([Judge(judge), Calls(no_rm)]).run(*TWO)
    (closed,) = run.recorded(EventType.CLOSED)
    assert {name: list(spent) for name, spent in closed.details["hooks"].items()} == {
        "judge": ["on_tool_call_completed"]
    }
    assert closed.details["hooks"]["judge"]["on_tool_call_completed"] > 0


async def test_a_judge_past_its_deadline_blocks() -> None:
    async def forever(call: ToolCall) -> Any:
        await anyio.sleep_forever()

    limits = Limits(hook_timeout=0.01)
    run = await Bench([Judge(forever)], limits=limits).run(
        {"call": "ls"}, {"called": "0"}, {"finish": "stop"}
    )
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.POLICY_ERROR
    assert "no answer in" in run.recorded(EventType.POLICY_ERROR)[0].details["error"]
    assert all("call" not in each for each in run.seen)


@pytest.mark.parametrize("waits", [True, False])
async def test_what_a_hook_says_after_its_deadline_is_not_heard(waits: bool) -> None:
    """It may have been cancelled, and have taken that for a failure of what it asked."""
    clock = VirtualClock()

    class Late(Policy):
        @hookimpl
        async def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> None:
            await checkpoint()
            clock.now = ctx.deadline

    late = Late()
    late.waits = waits
    run = await Bench([late], clock=clock).run({"text": "unseen"}, {"finish": "stop"})
    assert "unseen" not in run.text
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.POLICY_ERROR


@pytest.mark.parametrize("hook", ["on_request_started", "on_request_completed"])
async def test_a_hook_on_the_request_has_a_deadline_of_its_own(hook: str) -> None:
    async def forever(self: Any) -> None:
        await anyio.sleep_forever()

    policy = type("Hangs", (Policy,), {hook: hookimpl(specname=hook)(forever)})()
    bench = Bench([policy], limits=Limits(hook_timeout=0.01))
    with anyio.fail_after(10):
        result = await bench.plane.decide_request(RequestMetadata("c", 0.0), "lines", b'{"model":"m"}')
    (told,) = [r for r in bench.delivery.latest.records("c") if r.type is EventType.POLICY_ERROR]
    assert "no answer in" in told.details["error"]
    assert not result.allowed


async def nonsense(self: Any) -> Any:
    return ["nonsense"]


async def says_block(self: Any) -> Any:
    return Block("too late?")


async def fails(self: Any) -> Any:
    raise RuntimeError("no")


@pytest.mark.parametrize("does", [nonsense, says_block, fails])
@pytest.mark.parametrize("on_error", ["block", "allow"])
async def test_nothing_is_sent_that_the_last_look_at_the_request_failed_on(does: Any, on_error: str) -> None:
    policy = type("Looks", (Policy,), {"on_request_completed": hookimpl(does)})()
    bench = Bench([{"use": policy, "on_error": on_error}])
    result = await bench.plane.decide_request(RequestMetadata("c", 0.0), "lines", b'{"model":"m"}')
    forgiven = on_error == "allow" and does is not says_block
    assert result.allowed == forgiven
    kinds = (EventType.POLICY_ERROR, EventType.VERDICT)
    assert [r.details["enforced"] for r in bench.delivery.latest.records("c") if r.type in kinds] == [
        not forgiven
    ]


@pytest.mark.parametrize("does", [says_block, fails])
@pytest.mark.parametrize("hook", ["on_response_completed", "on_exchange_closed"])
async def test_what_is_said_when_all_has_left_is_on_record_as_without_effect(hook: str, does: Any) -> None:
    policy = type("Late", (Policy,), {hook: hookimpl(specname=hook)(does)})()
    run = await Bench([policy]).run({"text": "so"}, {"finish": "stop"})
    assert run.text == "so"
    assert run.outcome == Outcome(OutcomeStatus.SUCCESS)
    told = run.recorded(EventType.POLICY_ERROR) + run.recorded(EventType.VERDICT)
    assert [record.details["enforced"] for record in told] == [False]


async def test_nonsense_about_a_response_that_was_held_blocks_it() -> None:
    policy = type("Holds", (Policy,), {"on_response_completed": hookimpl(nonsense), "hold": "response"})()
    run = await Bench([policy]).run({"text": "so"}, {"finish": "stop"})
    assert "so" not in run.text
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.POLICY_ERROR


async def test_a_blocked_call_stays_blocked_for_a_while_without_asking_again() -> None:
    asked: list[str] = []

    def judge(call: ToolCall) -> Block | None:
        asked.append(call.arguments)
        return Block("first", "NO") if len(asked) == 1 else None

    bench = Bench([Calls(judge, remember=60.0)])
    for _ in range(2):
        run = await bench.run({"call": "rm"}, {"called": "0"}, {"finish": "stop"})
        assert run.text == "NO"
    assert asked == ["rm"]
    assert (await bench.run({"call": "ls"}, {"called": "0"})).seen[0] == {"call": "ls"}


async def test_an_abort_on_a_call_ends_the_answer() -> None:
    run = await Bench([Calls(lambda _: Abort("stop", "END"))]).run(
        {"call": "x"}, {"called": "0"}, {"text": "more"}
    )
    assert run.seen == [{"text": "END", "finish": "stop"}]


async def test_what_is_held_is_bounded() -> None:
    bench = Bench([Calls(no_rm)], limits=Limits(max_held_bytes=200))
    run = await bench.run(*({"call": "x" * 20} for _ in range(20)), {"called": "0"})
    assert run.releases[-1].done
    assert run.outcome is not None
    assert run.outcome.policy == "limits"


FRAMES = [{"text": "ab"}] * 20
SIZE = len(wire(*FRAMES))


@pytest.mark.parametrize("step", [None, 1, 50])
@pytest.mark.parametrize(("room", "policy"), [(SIZE, None), (SIZE - 1, "limits")])
async def test_a_stream_does_not_go_on_for_ever(step: int | None, room: int, policy: str | None) -> None:
    found = await Bench([Calls(no_rm)], limits=Limits(max_stream_bytes=room)).run(*FRAMES, step=step)
    assert found.outcome is not None
    assert found.outcome.policy == policy
    assert found.releases[-1].done == (policy is not None)
    if policy is None:
        assert found.data == wire(*FRAMES)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_blocks=2), "more texts and tool calls than the limit allows"),
        (Limits(max_choices=2), "more choices than the limit allows"),
    ],
)
async def test_what_an_answer_consists_of_is_bounded(limits: Limits, reason: str) -> None:
    script = Script()
    for choice in range(3):
        script = script.text(f"text {choice}", choice=choice)
    for each in await run(Calls(no_rm), script, cuts="whole", limits=limits):
        assert each.outcome is not None
        assert (each.outcome.policy, each.outcome.reason) == ("limits", reason)
        assert "text 2" not in each.body.decode()


async def test_a_retry_is_honoured_while_nothing_has_left_and_only_so_often() -> None:
    class Again(Policy):
        @hookimpl
        def on_response_started(self) -> Retry:
            return Retry("again", model="better")

    bench = Bench([Again()], limits=Limits(max_retries=0))
    run = await bench.run({"text": "a"})
    assert run.releases[0].retry is None
    assert run.seen == [{"text": "⛔ Blocked by the policy again.", "finish": "stop"}]
    run = await Bench([Again()]).run({"text": "a"})
    assert run.releases[0].retry == b'{"model": "better"}'
    (changed,), (sent,) = run.recorded(EventType.CHANGED), run.recorded(EventType.REQUEST_SENT)
    assert (changed.policy, changed.details) == ("again", {"request": ["model"]})
    assert sent.details == {"body": '{"model": "better"}'}, "what goes upstream is on record"


async def test_a_response_can_be_held_whole_and_judged() -> None:
    class Whole(Policy):
        hold = "response"

        @hookimpl
        def on_response_completed(self, response: Any) -> Any:
            return Block("both", "NO") if response.text == "ab" and response.tool_calls else None

    chunks = [{"text": "a", "id": "t"}, {"text": "b", "id": "t"}, {"call": "x", "id": "c"}, {"called": "c"}]
    run = await Bench([Whole()]).run(*chunks, {"finish": "stop"}, step=5)
    assert run.seen == [{"text": "NO", "finish": "stop"}]
    run = await Bench([Whole()]).run(*chunks[:2], {"finish": "stop"}, step=5)
    assert run.text == "ab"
    assert [release.items for release in run.releases[:-1]] == [()] * (len(run.releases) - 1)


async def test_illegal_output_names_its_policy_before_a_byte_leaves() -> None:
    class Breaks(Policy):
        @hookimpl
        def on_chunk_completed(self, chunk: Any) -> Any:
            return chunk.replace(data={"illegal": 1})

    run = await Bench([Breaks()]).run({"text": "a"}, {"finish": "stop"})
    assert run.outcome is not None
    assert (run.outcome.status, run.outcome.policy) == (OutcomeStatus.POLICY_ERROR, "breaks")
    assert run.seen == [{"text": "⛔ Blocked by the policy breaks.", "finish": "stop"}]


async def test_the_close_hook_is_called_exactly_once() -> None:
    outcomes: list[Any] = []

    class Closes(Policy):
        @hookimpl
        def on_exchange_closed(self, outcome: Any, ctx: PolicyContext) -> None:
            outcomes.append(outcome.status.value)

    bench = Bench([Closes()])
    await bench.run({"text": "a"}, {"finish": "stop"})
    await bench.plane.close("c")
    assert outcomes == ["success"]


def facts(run: Any, *types: EventType) -> list[tuple[str | None, Any, Any, Any]]:
    """(policy, id of the call, name of its tool, what became of it)"""
    names = ("tool_call", "tool", "to")
    found = [record for record in run.records if record.type in types]
    return [(record.policy, *(record.details.get(name) for name in names)) for record in found]


TWO = (
    {"call": "ls", "id": "1"},
    {"called": "1"},
    {"call": "rm", "id": "2"},
    {"called": "2"},
    {"finish": "stop"},
)


async def test_each_change_is_on_record_with_the_call_that_it_concerned() -> None:
    run = await Bench([Calls(lambda call: "no" if call.id == "1" else None)]).run(*TWO)
    assert facts(run, EventType.CHANGED) == [("calls", "1", "tool", "text")]
    run = await Bench([Calls(lambda call: call.replace(arguments="") if call.id == "2" else None)]).run(*TWO)
    assert facts(run, EventType.CHANGED) == [("calls", "2", "tool", "call")]


async def test_changed_fragments_are_on_record_once_for_each_call() -> None:
    class Upper(Policy):
        @hookimpl
        def on_tool_call_chunk(self, chunk: ToolCallChunk) -> ToolCallChunk:
            return chunk.replace(text=chunk.text.upper())

    run = await Bench([Upper()]).run({"call": "a"}, {"call": "b"}, {"called": "0"}, {"finish": "stop"})
    assert facts(run, EventType.CHANGED) == [("upper", "0", "tool", "call")]


@pytest.mark.parametrize("result", [ValueError("no"), 7])
async def test_a_failure_says_which_call_it_concerned(result: Any) -> None:
    def fails(call: ToolCall) -> Any:
        if call.id == "1":
            return None
        if isinstance(result, Exception):
            raise result
        return result

    run = await Bench([Calls(fails)]).run(*TWO)
    assert facts(run, EventType.POLICY_ERROR) == [("calls", "2", "tool", None)]


async def test_a_remembered_verdict_says_which_call_it_concerned() -> None:
    bench = Bench([Calls(no_rm, remember=60.0)])
    await bench.run(*TWO)
    run = await bench.run(*TWO)
    assert facts(run, EventType.VERDICT) == 2 * [("calls", "2", "tool", None)]


def test_so_many_verdicts_are_remembered_the_latest_ones() -> None:
    cache, policy, block = VerdictCache(), Calls(no_rm), Block("no")
    calls = [ToolCall("1", "bash", str(at)) for at in range(VerdictCache.SIZE + 1)]
    for call in calls:
        if call is calls[-1]:
            cache.put(policy, calls[0], block, until=1.0)  # said again
        cache.put(policy, call, block, until=1.0)
    kept = [cache.get(policy, call, now=0.0) is block for call in calls]
    assert (kept[0], kept[1], kept[2], kept[-1]) == (True, False, True, True)
    assert sum(kept) == VerdictCache.SIZE
    assert cache.get(policy, calls[0], now=1.0) is None


async def test_a_verdict_is_remembered_for_the_policy_that_spoke_it_and_for_no_other_of_its_name() -> None:
    strict, lenient = Bench([Calls(no_rm, remember=60.0)]), Bench([Calls(lambda _: None, remember=60.0)])
    lenient.services.cache = strict.services.cache
    assert (await strict.run({"call": "rm"}, {"called": "0"})).text == "NO"
    assert (await lenient.run({"call": "rm"}, {"called": "0"})).seen[0] == {"call": "rm"}


class Fragments(Policy):
    def __init__(self, does: Any) -> None:
        self._does = does

    @hookimpl
    def on_tool_call_chunk(self, chunk: ToolCallChunk) -> Any:
        return self._does(chunk)


async def test_a_call_leaves_whole_or_not_at_all_also_where_only_fragments_are_looked_at() -> None:
    policy = Fragments(lambda chunk: Block("rm") if "rf" in chunk.text else None)
    call = ({"call": "rm -", "id": "0"}, {"call": "rf /", "id": "0"}, {"called": "0"}, {"finish": "calls"})
    bench = Bench([policy])
    found = await bench.run(*call)
    assert "rm -" not in found.data.decode()
    assert ("fragments", "tool calls: whole") in Plan([policy]).bounds()


@pytest.mark.parametrize(
    "does",
    [
        lambda chunk: [chunk.replace(text=None)],
        lambda chunk: chunk.replace(text="\ud800"),
        lambda chunk: 7,
    ],
)
async def test_nonsense_about_a_fragment_blocks(does: Any) -> None:
    run = await Bench([Fragments(does)]).run({"call": "ls"}, {"called": "0"}, {"finish": "calls"})
    assert run.outcome is not None
    assert (run.outcome.status, run.outcome.policy) == (OutcomeStatus.POLICY_ERROR, "fragments")


@pytest.mark.parametrize("arguments", ["[]", "{", '"x"', "\ud800"])
async def test_arguments_that_the_format_cannot_say_are_the_policy_s_failure(arguments: str) -> None:
    policy = Calls(lambda call: call.replace(arguments=arguments))
    script = Script().text("Sure.").tool_call("bash", {"c": "ls"})
    for one in await run(policy, script, wire_formats=["anthropic.messages"]):
        assert one.outcome is not None
        assert (one.outcome.status, one.outcome.policy) == (OutcomeStatus.POLICY_ERROR, "calls")
        assert one.transcript.text.startswith("Sure.")
        assert not one.transcript.tool_calls


async def test_an_answer_can_be_asked_for_again_until_the_last_call_is_decided() -> None:
    async def again(call: ToolCall) -> Retry:
        await anyio.lowlevel.checkpoint()
        return Retry("no")

    bench = Bench([Judge(again)])
    run = await bench.run({"open": "x"}, {"call": "ls"}, {"called": "0"}, {"finish": "calls"})
    assert any(release.retry is not None for release in run.releases)
    assert not run.data


async def test_an_answer_of_which_something_has_left_is_not_asked_for_again() -> None:
    run = await Bench([Calls(lambda _: Retry("no"))]).run(
        {"text": "so"}, {"end": "0"}, {"call": "ls", "id": "1"}, {"called": "1"}
    )
    assert [release.retry for release in run.releases if release.retry] == []
    assert run.outcome == Outcome(OutcomeStatus.BLOCKED, "calls", "no")
    assert run.seen[0] == {"text": "so"}
    assert not any("call" in each for each in run.seen)


async def test_what_happened_to_an_answer_that_nobody_got_is_not_the_outcome() -> None:
    verdicts = iter([Retry("no"), None])
    bench = Bench([Calls(lambda _: next(verdicts))])
    await bench.plane.decide_request(RequestMetadata("c", 0.0), "lines", b'{"model":"m"}')
    for attempt in range(2):
        stream = await bench.plane.open_stream(StreamingContext("c", "lines", 200, True, attempt))
        release = await stream.feed(wire({"call": "ls"}, {"called": "0"}, {"finish": "calls"}), last=True)
        assert (release.retry is not None) == (attempt == 0)
    assert (await bench.plane.close("c")).status is OutcomeStatus.SUCCESS


@pytest.mark.parametrize("fails", ["policy", "upstream", "twice"])
async def test_a_failure_is_told_once(fails: str) -> None:
    told: list[ResponseFailed] = []

    class Hears(Policy):
        @hookimpl
        def on_error(self, error: ResponseFailed) -> None:
            told.append(error)

        @hookimpl
        def on_content_chunk(self, chunk: Any) -> None:
            if fails == "policy":
                raise RuntimeError("no")

    chunks = {"policy": [{"text": "x"}, {"finish": "stop"}], "upstream": [{"text": "x"}]}
    run = await Bench([Hears()]).run(*chunks.get(fails, [{"error": "a"}, {"error": "b"}]))
    assert run.outcome is not None
    assert run.outcome.status is not OutcomeStatus.SUCCESS
    assert len(told) == 1


async def test_what_a_policy_records_never_fails_it() -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no")

    circle: list[Any] = []
    circle.append(circle)

    class Records(Policy):
        @hookimpl
        def on_content_chunk(self, chunk: Any, ctx: PolicyContext) -> None:
            ctx.record("a", event="mine", policy="mine", type="mine")
            for value in (circle, Odd(), 10**5000, {"x": Odd()}):
                ctx.record("b", value=value)

    run = await Bench([Records()]).run({"text": "so"}, {"finish": "stop"})
    assert run.text == "so"
    first, *others = run.recorded(EventType.POLICY_RECORD)
    assert first.details == {"event": "a", "event_": "mine", "policy_": "mine", "type_": "mine"}
    assert [record.details["event"] for record in others] == ["b"] * 4


async def test_a_policy_that_is_still_at_work_says_so() -> None:
    moved = list[tuple[float, float]]()

    class Works(Policy):
        waits = True

        @hookimpl
        async def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> None:
            await anyio.lowlevel.checkpoint()
            ctx.keepalive()

    class Moved:
        def move(self, seconds: float) -> None:
            moved.append((wait.deadline, seconds))

    async def within(awaitable: Awaitable[Any], its: Wait) -> Any:
        nonlocal wait
        wait = its
        wait.limit = Moved()
        return await awaitable

    wait: Wait
    now = iter(range(100))
    bench = Bench([{"use": Works(), "timeout": 40.0}], clock=lambda: float(next(now)), within=within)
    run = await bench.run({"call": "ls"}, {"called": "0"}, {"finish": "calls"})
    assert run.outcome == Outcome(OutcomeStatus.SUCCESS)
    assert moved == [(wait.begun + 1 + 40.0, 40.0)], "its time begins anew, by both clocks"


@pytest.mark.parametrize("on_error", ["block", "allow"])
async def test_a_hook_can_see_how_much_time_it_has(on_error: str) -> None:
    now, left = [100.0], []

    class Looks(Policy):
        @hookimpl
        async def on_content_chunk(self, chunk: Any, ctx: PolicyContext) -> None:
            left.append(ctx.deadline - ctx.clock())
            await anyio.lowlevel.checkpoint()
            now[0] += 4
            left.append(ctx.deadline - ctx.clock())
            ctx.keepalive()
            left.append(ctx.deadline - ctx.clock())

    item = {"use": Looks(), "on_error": on_error, "timeout": 10.0}
    run = await Bench([item], clock=lambda: now[0]).run({"text": "a"}, {"text": "b"}, {"finish": "stop"})
    assert run.text == "ab"
    assert left == [10.0, 6.0, 10.0] * 2


async def test_who_is_late_already_gets_no_more_time() -> None:
    now = [0.0]

    class Late(Policy):
        waits = True

        @hookimpl
        async def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> None:
            await anyio.lowlevel.checkpoint()
            now[0] = 10.0
            ctx.keepalive()

    bench = Bench([{"use": Late(), "timeout": 10.0}], clock=lambda: now[0])
    run = await bench.run({"call": "ls"}, {"called": "0"}, {"finish": "calls"})
    assert run.outcome is not None
    assert run.outcome.status is OutcomeStatus.POLICY_ERROR


class EndsOrWaits(Policy):
    waits = True

    @hookimpl
    async def on_tool_call_completed(self, call: ToolCall) -> Abort:
        if call.id == "b":
            await anyio.lowlevel.checkpoint()
            return Abort("no more of this")
        await anyio.sleep_forever()
        raise AssertionError


async def test_a_verdict_that_ends_the_answer_waits_for_no_other() -> None:
    with anyio.fail_after(20):
        run = await Bench([EndsOrWaits()]).run(
            {"call": "{}", "id": "a"},
            {"call": "{}", "id": "b"},
            {"call": "{}", "id": "c"},
            {"called": "a"},
            {"called": "b"},
            {"called": "c"},
        )
    assert run.outcome == Outcome(OutcomeStatus.BLOCKED, "ends-or-waits", "no more of this")
    assert not any("call" in each for each in run.seen)
    assert run.recorded(EventType.POLICY_ERROR) == []


class Questions:
    """Nobody hears an answer before `answer`, and then "END" ends it all."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.deadlines: list[float] = []
        self.now = self.most = 0
        self.answer = anyio.Event()

    async def ask(self, what: str, ctx: PolicyContext) -> Abort | None:
        self.asked.append(what)
        self.deadlines.append(ctx.deadline)
        self.now += 1
        self.most = max(self.most, self.now)
        await self.answer.wait()
        await anyio.lowlevel.checkpoint()
        self.now -= 1
        return Abort("no more of this") if what == "END" else None


class Asks(Policy):
    waits = True

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    @hookimpl
    async def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> Abort | None:
        return await self._questions.ask(call.arguments, ctx)

    @hookimpl
    async def on_content_completed(self, content: ContentCompleted, ctx: PolicyContext) -> Abort | None:
        return await self._questions.ask(content.text, ctx)


@pytest.mark.parametrize("kind", ["call", "text"])
@pytest.mark.parametrize("step", ["whole", "each"])
async def test_no_number_of_calls_or_texts_is_judged_at_once(kind: str, step: str) -> None:
    questions, time = Questions(), [0.0]
    bench = Bench([Asks(questions)], clock=lambda: time[0])
    ends = {"call": "called", "text": "end"}
    pieces = [wire({kind: str(at), "id": str(at)}, {ends[kind]: str(at)}) for at in range(100)]
    await bench.begin()
    found = Run()
    async with anyio.create_task_group() as tasks:
        for piece in pieces if step == "each" else [b"".join(pieces)]:
            found.releases.append(await bench.stream.feed(piece))
            assert found.releases[-1].pending
            tasks.start_soon(bench.stream.decide_pending)
            await anyio.wait_all_tasks_blocked()
        assert questions.asked == [str(at) for at in range(16)], "the first ones: they leave first"
        time[0] = 5.0
        questions.answer.set()
    assert questions.most == 16
    assert questions.deadlines == [30.0] * 16 + [35.0] * 84, "nobody's time begins before it is asked"
    found.releases.append(await bench.stream.feed(wire({"finish": "stop"}), last=True))
    await bench.end(found)
    assert found.data == b"".join(pieces) + wire({"finish": "stop"})
    assert found.outcome == Outcome(OutcomeStatus.SUCCESS)


@pytest.mark.parametrize("step", ["whole", "each"])
async def test_nobody_is_asked_about_an_answer_that_has_ended(step: str) -> None:
    questions = Questions()
    bench = Bench([Asks(questions)])
    texts = ["END", *map(str, range(99))]
    pieces = [wire({"call": text, "id": text}, {"called": text}) for text in texts]
    await bench.begin()
    found = Run()
    async with anyio.create_task_group() as tasks:
        for piece in pieces if step == "each" else [b"".join(pieces)]:
            await bench.stream.feed(piece)
            tasks.start_soon(bench.stream.decide_pending)
            await anyio.wait_all_tasks_blocked()
        questions.answer.set()
    assert len(questions.asked) <= 32
    found.releases.append(await bench.stream.feed(b""))
    await bench.end(found)
    assert not any("call" in each for each in found.seen)
    assert found.outcome == Outcome(OutcomeStatus.BLOCKED, "asks", "no more of this")


async def test_a_verdict_that_ends_the_answer_waits_for_none_of_many_either() -> None:
    ids = ["b" if at == 3 else str(at) for at in range(50)]
    chunks = [chunk for id in ids for chunk in ({"call": "{}", "id": id}, {"called": id})]
    with anyio.fail_after(20):
        run = await Bench([EndsOrWaits()]).run(*chunks)
    assert run.outcome == Outcome(OutcomeStatus.BLOCKED, "ends-or-waits", "no more of this")


async def test_what_waits_for_its_turn_is_not_asked_when_the_shell_ends_the_answer() -> None:
    questions = Questions()
    bench = Bench([Asks(questions)])
    await bench.begin()
    await bench.stream.feed(wire({"call": "a", "id": "a"}, {"called": "a"}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.stream.decide_pending)
        await anyio.wait_all_tasks_blocked()
        await bench.stream.feed(wire({"call": "b", "id": "b"}, {"called": "b"}))
        assert (await bench.stream.fail(504, "total_timeout", "late")).done
        questions.answer.set()
    assert questions.asked == ["a"]
    await bench.end()


class Stops(Policy):
    """Looks at no call, so none is held."""

    def __init__(self, word: bytes) -> None:
        self._word = word

    @hookimpl
    def on_chunk_started(self, chunk: Chunk) -> Abort | None:
        return Abort("no", "NO") if self._word in chunk.raw else None


async def test_an_answer_that_is_ended_inside_a_call_leaves_nothing_that_looks_like_a_whole_one() -> None:
    script = Script().text("Now. ").tool_call("bash", {"command": "rm -rf /srv/~old"}).split(6)
    for each in await run(Stops(b"~"), script, streamed=[True]):
        answer = each.transcript
        assert each.outcome.status is OutcomeStatus.BLOCKED
        assert answer.error is not None
        assert answer.error["message"] == "NO"
        assert not {*answer.finish} & {"stop", "tool_calls", "tool_use", "end_turn", "completed"}
        assert b"response.output_item.done" not in each.body.partition(b"function_call")[2]


async def test_an_answer_that_is_ended_behind_a_whole_call_ends_as_any_other() -> None:
    script = Script().text("Now. ").tool_call("bash", {"command": "ls"}).unknown("~")
    for each in await run(Stops(b"~"), script, streamed=[True], wire_formats=WIRE_FORMATS[1:]):
        assert each.transcript.error is None
        assert each.transcript.complete
        assert [call.name for call in each.transcript.tool_calls] == ["bash"]


async def test_half_a_call_that_has_left_is_on_record() -> None:
    class StopsAtTheEnd(Policy):
        @hookimpl
        def on_chunk_completed(self, chunk: Chunk) -> Abort | None:
            return Abort("no", "NO") if b"~" in chunk.raw else None

    script = Script().text("Now. ").tool_call("bash", {"command": "rm -rf /srv/~old"}).split(6)
    for each in await run(StopsAtTheEnd(), script, streamed=[True]):
        (left,) = [r.details for r in each.records if r.type is EventType.RESPONSE_RELEASED]
        (call,) = left["choices"][0]["tool_calls"]
        assert call["arguments"] == '{"command": "rm -rf /srv'[: len(call["arguments"])] != ""
