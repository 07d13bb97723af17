"""How the engine waits for what its hooks wait for: for so long, and for several at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import CoroutineType
from typing import Any

import anyio

from luthien_guard.clock import Clock
from luthien_guard.engine.services import UNSAID
from luthien_guard.engine.waits import Wait
from luthien_guard.pipeline.in_time import in_time

__all__ = ["at_once", "within"]


def within(clock: Clock, awaitable: Awaitable[Any], wait: Wait) -> Awaitable[Any]:
    """What it comes to. Raises OutOfTime at the deadline of the wait."""
    work = awaitable if type(awaitable) is CoroutineType else _result(awaitable)
    return in_time(clock, wait.deadline, work, wait)


async def _result(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def at_once(work: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """What each comes to, in their order; UNSAID where its task was cancelled, which a task group passes over."""
    found: list[Any] = [UNSAID] * len(work)

    async def do(at: int) -> None:
        found[at] = await work[at]()

    async with anyio.create_task_group() as tasks:
        for at in range(len(work)):
            tasks.start_soon(do, at)
    return found
