"""A policy in shadow has no say: not by its verdicts, not by failing, not by taking its time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from luthien_guard.events import ContentChunk, ContentCompleted, ToolCall
from luthien_guard.exchange import Outcome, OutcomeStatus
from luthien_guard.policy import Block, Policy, hookimpl
from luthien_guard.records import EventType
from tests.engine.drive import Bench, Limits
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
