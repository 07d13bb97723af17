"""What runs beside an application, on every loop and clock."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from luthien_guard.clock import MonotonicClock
from luthien_guard.pipeline import beside
from luthien_guard.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio

CLOCKS: list[Any] = [MonotonicClock, VirtualClock]


class Tasks:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.rung = anyio.Event()

    def ring(self) -> None:
        self.events.append("ring")
        self.rung.set()

    async def wait(self) -> None:
        self.events.append("began")
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await checkpoint()
                self.events.append("cleaned")

    async def work(self, name: str) -> None:
        await checkpoint()
        self.events.append(name)


@pytest.mark.parametrize("clock", CLOCKS)
async def test_it_ends_when_its_tasks_have(clock: Any) -> None:
    tasks = Tasks()
    async with beside(clock(), tasks.ring) as group:
        group.start(tasks.work, "a")
        group.start(tasks.work, "b")
    assert sorted(tasks.events) == ["a", "b"]


@pytest.mark.parametrize("clock", CLOCKS)
async def test_what_runs_meanwhile_begins_once_the_body_waits_and_is_waited_for(clock: Any) -> None:
    tasks = Tasks()
    async with beside(clock(), tasks.ring) as group:
        group.meanwhile(lambda: tasks.work("a"))
        assert tasks.events == []
        await checkpoint()
        await checkpoint()
    assert tasks.events == ["a"]


@pytest.mark.parametrize("clock", CLOCKS)
async def test_what_runs_meanwhile_does_nothing_once_all_is_over(clock: Any) -> None:
    tasks = Tasks()
    async with beside(clock(), tasks.ring) as group:
        group.meanwhile(lambda: tasks.work("a"))
        group.cancel()
    await checkpoint()
    await checkpoint()
    assert tasks.events == []


@pytest.mark.parametrize("clock", CLOCKS)
async def test_what_is_cancelled_may_clean_up(clock: Any) -> None:
    tasks = Tasks()
    async with beside(clock(), tasks.ring) as group:
        group.start(tasks.wait)
        while not tasks.events:
            await checkpoint()
        group.cancel()
        group.cancel()
    assert tasks.events == ["began", "cleaned"]


@pytest.mark.parametrize("clock", CLOCKS)
async def test_an_error_in_its_body_cancels_the_tasks_and_passes(clock: Any) -> None:
    tasks = Tasks()
    with pytest.raises((ValueError, ExceptionGroup)):
        async with beside(clock(), tasks.ring) as group:
            group.start(tasks.wait)
            while not tasks.events:
                await checkpoint()
            raise ValueError("mine")
    assert tasks.events == ["began", "cleaned"]


@pytest.mark.parametrize("clock", CLOCKS)
async def test_who_is_cancelled_leaves_nobody_behind(clock: Any) -> None:
    tasks = Tasks()
    with anyio.CancelScope() as scope:
        async with beside(clock(), tasks.ring) as group:
            group.start(tasks.wait)
            while not tasks.events:
                await checkpoint()
            scope.cancel()
    assert scope.cancelled_caught
    assert tasks.events == ["began", "cleaned"]


@pytest.mark.parametrize("clock", CLOCKS)
async def test_the_alarm_rings_at_its_moment_and_once(clock: Any) -> None:
    tasks, made = Tasks(), clock()
    async with beside(made, tasks.ring) as group:
        group.wake_at(made() + 3600)
        group.wake_at(made() - 1)
        await tasks.rung.wait()
        group.cancel()
    assert tasks.events == ["ring"]


@pytest.mark.parametrize("clock", CLOCKS)
async def test_an_alarm_that_was_taken_back_does_not_ring(clock: Any) -> None:
    tasks, made = Tasks(), clock()
    async with beside(made, tasks.ring) as group:
        group.wake_at(made() + 3600)
        group.wake_at(float("inf"))
        for _ in range(5):
            await checkpoint()
    assert tasks.events == []


async def test_a_clock_that_stands_still_rings_when_it_is_moved() -> None:
    tasks, clock = Tasks(), VirtualClock()
    async with beside(clock, tasks.ring) as group:
        group.wake_at(clock() + 10)
        await clock.advance(9)
        assert tasks.events == []
        group.wake_at(clock() + 5)
        await clock.advance(4)
        assert tasks.events == []
        await clock.advance(1)
        assert tasks.events == ["ring"]
        group.wake_at(clock() + 1)
        await clock.advance(1)
        assert tasks.events == ["ring", "ring"]
