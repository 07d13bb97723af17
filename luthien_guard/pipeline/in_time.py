"""Await something, but not for ever; and nearly for nothing where it does not wait at all."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- used where it runs, and only there
from collections.abc import Coroutine
from typing import Any, TypeVar

from luthien_guard.clock import Clock, MonotonicClock
from luthien_guard.engine.suspension import Rest

__all__ = ["OutOfTime", "in_time", "on_asyncio"]

T = TypeVar("T")


class OutOfTime(Exception):
    """The moment came first."""


async def in_time(clock: Clock, when: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Raises OutOfTime when the clock reaches `when` first, and what `work` raises.

    A cancel scope that is entered after the first step would not nest with those that the work has entered in it;
    asyncio's own time-out need not.
    """
    if not on_asyncio(clock):
        with clock.until(when) as scope:
            return await work
        assert scope.cancelled_caught
        raise OutOfTime
    try:
        first = work.send(None)
    except StopIteration as stop:
        done: T = stop.value
        return done
    limit = asyncio.timeout(None if when == float("inf") else max(0.0, when - clock()))
    try:
        async with limit:
            return await Rest(work, first)
    except TimeoutError:
        if limit.expired():
            raise OutOfTime from None
        raise


def on_asyncio(clock: Clock) -> bool:
    """True in a task of asyncio, on real time."""
    if not isinstance(clock, MonotonicClock):
        return False
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False
