"""Turns are taken in order and never lost, whoever is cancelled."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- its own cancellation

import anyio
import pytest

from luthien_guard.pipeline.turn import Turn
from luthien_guard.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio


async def test_turns_come_in_the_order_of_asking() -> None:
    turn, order, clock = Turn(), list[int](), VirtualClock()

    async def work(number: int) -> None:
        await turn.take()
        order.append(number)
        await anyio.lowlevel.checkpoint()
        turn.give()

    async with anyio.create_task_group() as tasks:
        await turn.take()
        for number in range(5):
            tasks.start_soon(work, number)
            await clock.rest()
        turn.give()
    assert order == [0, 1, 2, 3, 4]
    assert not turn.taken


async def test_a_cancelled_waiter_leaves_the_queue() -> None:
    turn, clock = Turn(), VirtualClock()
    await turn.take()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn.take)
        await clock.rest()
        tasks.cancel_scope.cancel()
    turn.give()
    assert not turn.taken


async def test_a_turn_handed_to_a_cancelled_waiter_goes_on_to_the_next() -> None:
    turn, clock, got = Turn(), VirtualClock(), list[str]()

    async def pass_on(name: str) -> None:
        await turn.take()
        got.append(name)
        turn.give()

    await turn.take()
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as cancelled:
        cancelled.start_soon(pass_on, "first")
        await clock.rest()
        tasks.start_soon(pass_on, "second")
        await clock.rest()
        turn.give()  # to the first waiter, which is cancelled before it can run
        cancelled.cancel_scope.cancel()
    assert got[-1] == "second"
    assert not turn.taken


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nor_is_a_turn_lost_that_asyncio_itself_cancels() -> None:
    """No scope cancels who has been called already; a task's own `cancel` does."""
    turn = Turn()
    await turn.take()
    first, second = [asyncio.create_task(turn.take()) for _ in range(2)]
    await anyio.wait_all_tasks_blocked()
    turn.give()
    first.cancel()
    with anyio.fail_after(20):
        await second
    assert first.cancelled()
    turn.give()
    assert not turn.taken
