"""A policy in shadow has no say: not by its verdicts, not by failing, not by taking its time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from luthien_guard import Guard
from luthien_guard.control_plane.service import StreamingContext
from luthien_guard.events import ContentChunk, ContentCompleted, ResponseCompleted, ToolCall
from luthien_guard.exchange import Outcome, OutcomeStatus, RequestMetadata
from luthien_guard.policy import Block, Policy, PolicyContext, Retry, hookimpl
from luthien_guard.records import EventType
from luthien_guard.testing import Script
from luthien_guard.testing.rendering import render
from tests.engine.drive import Bench, Limits, Run
from tests.engine.lines import wire

pytestmark = pytest.mark.anyio

CHUNKS = (
    {"text": "so "},
    {"text": "it is"},
    {"end": "0"},
    {"call": "ls", "id": "1"},
    {"called": "1"},
    {"finish": "x"},
)


class Hangs(Policy):
    def __init__(self, hook: str, waits: bool) -> None:
        self._hook = hook
        self.waits = waits

    def listens(self, hook: str) -> bool:
        return hook == self._hook

    async def _forever(self) -> None:
        await anyio.sleep_forever()

    @hookimpl
    async def on_response_started(self) -> None:
        await self._forever()

    @hookimpl
    async def on_chunk_started(self) -> None:
        await self._forever()

    @hookimpl
    async def on_content_chunk(self) -> None:
        await self._forever()

    @hookimpl
    async def on_content_completed(self) -> None:
        await self._forever()

    @hookimpl
    async def on_tool_call_completed(self) -> None:
        await self._forever()

    @hookimpl
    async def on_response_completed(self) -> None:
        await self._forever()


HOOKS = [name for name in vars(Hangs) if name.startswith("on_")]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("hook", HOOKS)
async def test_a_shadow_that_hangs_ends_nothing(hook: str, waits: bool) -> None:
    bench = Bench([{"use": Hangs(hook, waits), "mode": "shadow"}], limits=Limits(hook_timeout=0.001))
    with anyio.fail_after(20):
        run = await bench.run(*CHUNKS)
    assert run.data == wire(*CHUNKS)
    assert run.outcome == Outcome(OutcomeStatus.SUCCESS)
    errors = run.recorded(EventType.POLICY_ERROR)
    assert errors
    assert not any(record.details["enforced"] for record in errors)


async def test_a_guard_that_observes_waits_for_no_deadline_either() -> None:
    bench = Bench([Hangs("on_content_chunk", False)], mode="observe", limits=Limits(hook_timeout=0.001))
    run = await bench.run(*CHUNKS)
    assert run.data == wire(*CHUNKS)


class Asks(Policy):
    waits = True
    answer: Any = None

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> Block:
        await type(self).answer.wait()
        return Block("no")

    @hookimpl
    async def on_content_completed(self, content: ContentCompleted) -> Block:
        await type(self).answer.wait()
        return Block("no")

    @hookimpl
    async def on_tool_call_completed(self, call: ToolCall) -> Block:
        await type(self).answer.wait()
        return Block("no")


async def test_nothing_waits_for_a_shadow_that_asks_somebody() -> None:
    Asks.answer = anyio.Event()
    bench = Bench([{"use": Asks(), "mode": "shadow"}])
    await bench.begin()
    release = await bench.stream.feed(wire(*CHUNKS), last=True)
    assert release.data == wire(*CHUNKS)
    assert release.pending
    Asks.answer.set()
    while release.pending:
        release = await bench.stream.settle()
        assert not release.data
    run = await bench.end()
    assert run.outcome == Outcome(OutcomeStatus.SUCCESS)
    assert len(run.recorded(EventType.VERDICT)) == 4


class Lets(Policy):
    """A judge with a say, who is asked and answers at once."""

    waits = True

    @hookimpl
    async def on_tool_call_completed(self, call: ToolCall) -> None:
        await anyio.lowlevel.checkpoint()


class AsksAtTheEnd(Asks):
    """Of everything that it may be asked about an answer."""

    @hookimpl
    async def on_response_started(self) -> Block:
        await type(self).answer.wait()
        return Block("no")

    on_chunk_started = on_chunk_completed = on_response_completed = on_response_started


class Holds(Policy):
    hold = "response"

    @hookimpl
    def on_response_completed(self) -> None: ...


@pytest.mark.parametrize("shadow", [Asks, AsksAtTheEnd])
@pytest.mark.parametrize("others", [[Lets()], [Holds()], [Lets(), Holds()]])
async def test_what_others_have_a_say_in_waits_for_no_shadow_either(
    shadow: type[Asks], others: list[Policy]
) -> None:
    shadow.answer = anyio.Event()
    bench = Bench([{"use": shadow(), "mode": "shadow"}, *others])
    await bench.begin()
    run = Run()
    with anyio.fail_after(30):
        run.releases.append(await bench.stream.feed(wire(*CHUNKS), last=True))
        while run.releases[-1].pending > run.releases[-1].aside:
            run.releases.append(await bench.stream.settle())
    assert run.data == wire(*CHUNKS)
    assert run.releases[-1].complete
    shadow.answer.set()
    while run.releases[-1].pending:
        run.releases.append(await bench.stream.settle())
    assert run.data == wire(*CHUNKS)
    await bench.end(run)
    assert run.outcome == Outcome(OutcomeStatus.SUCCESS)
    asked = [record.details["hook"] for record in run.recorded(EventType.VERDICT)]
    assert asked.count("on_response_completed") == (shadow is AsksAtTheEnd)
    assert asked.count("on_tool_call_completed") == 1
    assert asked.count("on_content_chunk") == 2


class Counts(Policy):
    """What it was asked, in order; the first question takes until it is told to go on."""

    waits = True

    def __init__(self) -> None:
        self.told: Any = None

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> None:
        ctx.scratchpad["asked"] = asked = ctx.scratchpad.get("asked", 0) + 1
        await self.told.wait()
        assert ctx.scratchpad["asked"] == asked, "of two at once"
        ctx.record("seen", text=chunk.text)

    @hookimpl
    def on_content_completed(self, content: ContentCompleted, ctx: PolicyContext) -> None:
        ctx.record("seen", text=content.text)

    @hookimpl
    def on_exchange_closed(self, ctx: PolicyContext) -> None:
        ctx.record("closed")


async def test_a_shadow_is_asked_in_order_however_far_behind_it_is() -> None:
    policy = Counts()
    policy.told = anyio.Event()
    bench = Bench([{"use": policy, "mode": "shadow"}])
    await bench.begin()
    run = Run()
    async with anyio.create_task_group() as tasks:
        for text in "abc":
            run.releases.append(await bench.stream.feed(wire({"text": text})))
            if run.releases[-1].pending:
                tasks.start_soon(bench.stream.decide_pending)
                tasks.start_soon(bench.stream.decide_pending)
                await anyio.wait_all_tasks_blocked()
        run.releases.append(await bench.stream.feed(wire({"end": "0"}), last=True))
        assert [release.pending for release in run.releases] == [1, 0, 0, 0]
        policy.told.set()
    await bench.end(run)
    assert run.recorded(EventType.POLICY_ERROR) == []
    assert [each.details.get("text") for each in run.recorded(EventType.POLICY_RECORD)] == [
        *("a", "b", "c", "abc"),
        None,
    ]


async def test_what_waits_for_a_shadow_is_bounded() -> None:
    policy = Counts()
    policy.told = anyio.Event()
    bench = Bench([{"use": policy, "mode": "shadow"}], limits=Limits(max_held_bytes=10_000))
    await bench.begin()
    run = Run()
    text = wire(*[{"text": "x" * 1000}] * 50)
    run.releases.append(await bench.stream.feed(text))
    run.releases.append(await bench.stream.feed(wire({"finish": "x"}), last=True))
    policy.told.set()
    while run.releases[-1].pending:
        run.releases.append(await bench.stream.settle())
    await bench.end(run)
    assert run.data == text + wire({"finish": "x"})
    assert run.outcome == Outcome(OutcomeStatus.SUCCESS)
    seen = [each.details.get("text") for each in run.recorded(EventType.POLICY_RECORD)]
    assert 2 < len(seen) < 10
    (lost,) = run.recorded(EventType.POLICY_ERROR)
    assert "10000 bytes behind" in lost.details["error"]
    assert not lost.details["enforced"]


@pytest.mark.parametrize("many", [3, 100])
async def test_a_shadow_is_asked_about_several_calls_at_once_and_not_about_any_number(many: int) -> None:
    asked: list[str] = []
    answer = anyio.Event()

    class Judge(Policy):
        waits = True

        @hookimpl
        async def on_tool_call_completed(self, call: ToolCall) -> None:
            asked.append(call.id)
            await answer.wait()

        @hookimpl
        async def on_response_completed(self) -> None:
            asked.append("end")

    bench = Bench([{"use": Judge(), "mode": "shadow"}])
    await bench.begin()
    calls = [{"call": "{}", "id": str(at)} for at in range(many)]
    release = await bench.stream.feed(wire(*calls, {"finish": "x"}), last=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.stream.decide_pending)
        await anyio.wait_all_tasks_blocked()
        assert 1 < len(asked) < 50
        assert "end" not in asked
        answer.set()
    assert release.data == wire(*calls, {"finish": "x"})
    assert asked.pop() == "end"
    assert sorted(asked, key=int) == [str(at) for at in range(many)]


async def test_a_shadow_that_keeps_up_is_asked_about_everything() -> None:
    policy = Counts()
    policy.told = anyio.Event()
    policy.told.set()
    bench = Bench([{"use": policy, "mode": "shadow"}], limits=Limits(max_held_bytes=10_000))
    run = await bench.run(*[{"text": "x" * 1000}, {"end": "0"}] * 50, step=1100)
    assert run.recorded(EventType.POLICY_ERROR) == []
    assert len(run.recorded(EventType.POLICY_RECORD)) == 101


async def test_a_shadow_is_not_asked_about_an_answer_that_nobody_gets() -> None:
    policy = Counts()
    policy.told = anyio.Event()
    policy.told.set()

    class Again(Policy):
        hold = "response"

        @hookimpl
        def on_response_completed(self, response: ResponseCompleted) -> Retry | None:
            return Retry("again") if response.text == "a" else None

    bench = Bench([{"use": policy, "mode": "shadow"}, Again()])
    await bench.begin()
    assert (await bench.stream.feed(wire({"text": "a"}, {"finish": "x"}), last=True)).retry
    bench.stream = await bench.plane.open_stream(StreamingContext("c", "lines", 200, True, 1))
    run = Run([await bench.stream.feed(wire({"text": "b"}, {"finish": "x"}), last=True)])
    while run.releases[-1].pending:
        run.releases.append(await bench.stream.settle())
    await bench.end(run)
    seen = [each.details.get("text") for each in run.recorded(EventType.POLICY_RECORD)]
    assert seen == ["b", "b", None]


async def test_a_shadow_hears_of_each_piece_when_it_comes() -> None:
    policy = Counts()
    policy.told = anyio.Event()
    policy.told.set()
    frames = render(Script().text("so it is now").split(1), "openai.chat", stream=True).parts
    guard = Guard([{"use": policy, "mode": "shadow"}])
    asked = b'{"model":"m","messages":[],"stream":true}'
    await guard.plane.decide_request(RequestMetadata("c", 0.0), "openai.chat", asked)
    stream = await guard.plane.open_stream(StreamingContext("c", "openai.chat", 200, True))
    heard = 0
    for frame in frames:
        assert isinstance(frame, bytes)
        if (await stream.feed(frame)).pending:
            await stream.decide_pending()
        records = guard.records_of("c")
        before, heard = heard, sum(record.type is EventType.POLICY_RECORD for record in records)
        assert heard > before or b'"content":"' not in frame or b'"content":""' in frame
    await guard.plane.close("c")
    assert heard > 10
