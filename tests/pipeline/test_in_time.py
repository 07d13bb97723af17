"""Awaiting something, but not for ever."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- its futures and its loops are the subject
import gc
import weakref
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from luthien_guard.clock import Clock, MonotonicClock
from luthien_guard.pipeline import OutOfTime, in_time, limit, rest_before
from luthien_guard.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


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


@ON_ASYNCIO
async def test_a_limit_that_was_lifted_may_begin_again() -> None:
    task = asyncio.current_task()
    assert task is not None
    ends = limit(task, 3600)
    assert not ends.lift()
    for work, seconds in ((for_ever, -1), (in_a_scope_of_its_own, 3600), (for_ever, -1)):
        begun = work()
        first = begun.send(None)
        ends.begin(seconds)
        if seconds > 0:
            assert await rest_before(ends, begun, first) == "done"
        else:
            with pytest.raises(OutOfTime):
                await rest_before(ends, begun, first)
        assert not task.cancelling()
    await checkpoint()


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


class Uncancellable(asyncio.Future[None]):
    """Of a client that knows better."""

    told = False

    def cancel(self, msg: Any = None) -> bool:
        if self.told:
            return super().cancel(msg)
        self.told = True
        raise RuntimeError("not now")


@ON_ASYNCIO
async def test_a_future_that_cannot_be_cancelled_keeps_nobody_else_waiting(anyio_backend: str) -> None:
    loop, clock, late = asyncio.get_running_loop(), MonotonicClock(), list[str]()
    failures = list[Any]()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))

    async def waits_for(name: str, work: Any) -> None:
        try:
            await in_time(clock, clock() - 1, work)
        except OutOfTime:
            late.append(name)

    async def odd() -> None:
        await Uncancellable()

    try:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(waits_for, "odd", odd())
                tasks.start_soon(waits_for, "another", for_ever())
            await waits_for("a later one", for_ever())
    finally:
        loop.set_exception_handler(None)
    assert late == ["another", "odd", "a later one"]
    assert [str(each) for each in failures] == ["not now"]


async def test_a_limit_that_was_lifted_cancels_nobody_when_it_is_moved() -> None:
    clock, wait = MonotonicClock(), Extended()
    await in_time(clock, clock() + 60, in_a_scope_of_its_own(), wait)  # type: ignore[arg-type]
    wait.limit.move(-1.0)
    with pytest.raises(OutOfTime):  # another one has come after it
        await in_time(clock, clock() - 1, for_ever())
    for _ in range(5):
        await checkpoint()


def test_a_loop_that_was_closed_while_somebody_waited_is_let_go() -> None:
    async def leave() -> asyncio.Task[str]:
        clock = MonotonicClock()
        task = asyncio.ensure_future(in_time(clock, clock() + 3600, for_ever()))
        await checkpoint()
        await checkpoint()
        return task

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: None)  # it says that the task is lost
    gone = weakref.ref(loop)
    loop.run_until_complete(leave())
    loop.close()
    del loop
    gc.collect()
    assert gone() is None


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
