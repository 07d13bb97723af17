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
