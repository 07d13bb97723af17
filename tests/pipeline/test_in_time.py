"""Awaiting something, but not for ever."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from luthien_guard.clock import Clock, MonotonicClock
from luthien_guard.pipeline import OutOfTime, in_time
from luthien_guard.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio


async def at_once() -> str:
    return "done"


async def for_ever() -> str:
    await anyio.sleep_forever()
    return "never"


async def in_a_scope_of_its_own() -> str:
    """Its first step enters a scope that its last step leaves."""
    with anyio.move_on_after(60):
        for _ in range(5):
            await checkpoint()
    return "done"


async def failing() -> str:
    await checkpoint()
    raise TimeoutError("its own")


CLOCKS: list[Any] = [MonotonicClock, VirtualClock]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("work", [at_once, in_a_scope_of_its_own])
@pytest.mark.parametrize("seconds", [60.0, float("inf")])
async def test_what_is_there_in_time(clock: Any, work: Any, seconds: float) -> None:
    made: Clock = clock()
    assert await in_time(made, made() + seconds, work()) == "done"
    with anyio.CancelScope() as scope:  # scopes still nest
        scope.cancel()
        await checkpoint()
    assert scope.cancelled_caught


@pytest.mark.parametrize("clock", CLOCKS)
async def test_what_comes_too_late(clock: Any) -> None:
    made: Clock = clock()
    with pytest.raises(OutOfTime):
        await in_time(made, made() - 1, for_ever())
    await checkpoint()


class Extended:
    """A wait whose end somebody moves."""

    def __init__(self) -> None:
        self.limit: Any = None


@pytest.mark.parametrize("clock", CLOCKS)
async def test_the_end_can_be_moved(clock: Any) -> None:
    made: Clock = clock()
    wait = Extended()

    async def work() -> None:
        await checkpoint()
        wait.limit.move(0.0)
        await anyio.sleep_forever()

    with pytest.raises(OutOfTime):
        await in_time(made, made() + 3600, work(), wait)  # type: ignore[arg-type]
    await checkpoint()


@pytest.mark.parametrize("clock", CLOCKS)
async def test_many_wait_and_each_has_its_own_end(clock: Any) -> None:
    made: Clock = clock()
    late = list[int]()

    async def one(at: int) -> None:
        work, seconds = (for_ever(), -1.0) if at % 2 else (in_a_scope_of_its_own(), 3600.0 - at)
        try:
            await in_time(made, made() + seconds, work)
        except OutOfTime:
            late.append(at)

    async with anyio.create_task_group() as tasks:
        for at in range(20):
            tasks.start_soon(one, at)
    assert sorted(late) == list(range(1, 20, 2))


async def test_who_does_not_let_go_is_told_once_more() -> None:
    told = 0

    async def stubborn() -> str:
        nonlocal told
        while told < 2:
            try:
                await anyio.sleep_forever()
            except BaseException:  # what no policy should do
                told += 1
        return "late"

    clock = MonotonicClock()
    assert await in_time(clock, clock() - 1, stubborn()) == "late"
    assert told == 2
    await checkpoint()


@pytest.mark.parametrize("clock", CLOCKS)
async def test_a_timeout_of_its_own_stays_its_own(clock: Any) -> None:
    made: Clock = clock()
    with pytest.raises(TimeoutError, match="its own"):
        await in_time(made, made() + 60, failing())


@pytest.mark.parametrize("clock", CLOCKS)
async def test_who_cancels_from_outside_is_not_late(clock: Any) -> None:
    made: Clock = clock()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await in_time(made, made() + 60, for_ever())
    assert scope.cancelled_caught
