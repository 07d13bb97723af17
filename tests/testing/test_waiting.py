"""Hooks that wait: for a person who never answers, for the test itself, for ever."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from luthien_guard import ChatRequest, Outcome, Policy, PolicyContext, ToolCall, hookimpl
from luthien_guard.policy import Block
from luthien_guard.testing import Script, VirtualClock, check_policy, run

CALL = Script().text("Sure. ").tool_call("bash", {"command": "unlikely"})
#: Longer than any test may take.
LONG = 100_000.0


class Approval(Policy):
    waits = True
    timeout = LONG

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.answered = anyio.Event()
        self.approves = True

    @hookimpl
    async def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        self.asked.set()
        await self.answered.wait()
        return None if self.approves else Block("refused")


class Unasked(Approval):
    """Does not say that it waits."""

    waits = False


class OnRequest(Policy):
    timeout = LONG

    @hookimpl
    async def on_request_started(self, request: ChatRequest) -> None:
        await anyio.sleep_forever()


class AtTheEnd(Policy):
    @hookimpl
    async def on_exchange_closed(self, outcome: Outcome) -> None:
        await anyio.sleep_forever()


class Again(Policy):
    """Begins its time anew, twice, and gives up at last."""

    waits = True
    timeout = LONG

    @hookimpl
    async def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> None:
        began = ctx.clock()
        for _ in range(2):
            clock: Any = ctx.clock
            with clock.until(ctx.clock() + 0.9 * LONG):
                await anyio.sleep_forever()
            ctx.keepalive()
        try:
            await anyio.sleep_forever()
        finally:
            ctx.record("waited", seconds=ctx.clock() - began)


def jumping() -> VirtualClock:
    return VirtualClock(autojump=True)


@pytest.mark.parametrize("policy", [Approval, Unasked, OnRequest])
async def test_nobody_answers(policy: type[Policy]) -> None:
    runs = await run(policy(), CALL, cuts="whole", clock=jumping())
    runs.assert_outcome("policy_error").no_leak("unlikely")


async def test_time_begins_anew() -> None:
    (played,) = await run(
        Again(), CALL, wire_formats=["openai.chat"], streamed=[True], cuts="whole", clock=jumping()
    )
    assert played.outcome.status.value == "policy_error"
    (waited,) = [each.details["seconds"] for each in played.records if each.details.get("event") == "waited"]
    assert waited == pytest.approx(2.8 * LONG)


@pytest.mark.parametrize("approves", [True, False])
async def test_somebody_answers(approves: bool) -> None:
    policy = Approval()
    policy.approves = approves

    async def answer() -> None:
        await policy.asked.wait()
        policy.answered.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer)
        runs = await run(policy, CALL, cuts="whole", clock=jumping())
    runs.assert_released(tool_calls=["bash"]) if approves else runs.assert_blocked("approval").no_leak(
        "unlikely"
    )


async def test_a_hook_that_waits_for_ever_is_found() -> None:
    """In real seconds, where the clock is told nothing; also one that does not say that it waits."""
    for policy in (Unasked(), Approval()):
        policy.timeout = 0.2
        with pytest.raises(
            AssertionError, match=r"on_tool_call_completed: .*(past its deadline|no answer in)"
        ):
            await check_policy(policy, wire_formats=["openai.chat"], cuts="whole")


async def test_the_end_takes_no_longer_than_a_shell_gives_it() -> None:
    with pytest.raises(AssertionError, match="on_exchange_closed took longer than 5 seconds"):
        await check_policy(AtTheEnd(), cuts="whole", clock=jumping())
