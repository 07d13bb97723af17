"""Await something, but not for ever; and nearly for nothing where it does not wait at all."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- used where it runs, and only there
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

from luthien_guard.clock import Clock, MonotonicClock, OutOfTime
from luthien_guard.engine.suspension import rest
from luthien_guard.engine.waits import Wait
from luthien_guard.pipeline.alarm import Limit, limit

__all__ = ["OutOfTime", "in_time", "on_asyncio", "rest_before"]

T = TypeVar("T")


async def in_time(clock: Clock, when: float, work: Coroutine[Any, Any, T], wait: Wait | None = None) -> T:
    """What `work` returns. Raises OutOfTime when the clock reaches `when` first, or as many real seconds are over (a clock
    may stand still), and what `work` raises.

    A cancel scope that is entered after the first step would not nest with those that the work has entered in it; a
    limit of asyncio's own kind need not.
    """
    if not on_asyncio(clock):
        return await _in_scope(clock, when, work, wait)
    try:
        first = work.send(None)
    except StopIteration as stop:
        done: T = stop.value
        return done
    task = asyncio.current_task()
    assert task is not None
    ends = limit(task, when - clock())
    if wait is not None:
        wait.limit = ends
    return await rest_before(ends, work, first)


async def rest_before(ends: Limit, work: Coroutine[Any, Any, T], first: object) -> T:
    """`in_time` for work whose first step, made by hand, gave `first`, and whose limit has begun."""
    try:
        return await rest(work, first)
    except asyncio.CancelledError:
        if ends.lift():
            raise OutOfTime from None
        raise
    finally:
        ends.lift()


async def _in_scope(clock: Clock, when: float, work: Coroutine[Any, Any, T], wait: Wait | None) -> T:
    ends = _Scope(clock)
    ends.move(when - clock())
    if wait is not None:
        wait.limit = ends
    with ends.scope:
        return await work
    assert ends.scope.cancelled_caught
    raise OutOfTime


class _Scope:
    """What limits the time on other loops and clocks."""

    def __init__(self, clock: Clock) -> None:
        self.scope = anyio.CancelScope()
        self._clock = clock

    def move(self, seconds: float) -> None:
        self._clock.until(self._clock() + seconds, self.scope)
        self.scope.deadline = anyio.current_time() + seconds


def on_asyncio(clock: Clock) -> bool:
    """Whether it is asyncio that waits, and in real time."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return isinstance(clock, MonotonicClock)
