"""How the engine waits for what its hooks wait for: for so long, and for several at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from luthien_guard.clock import Clock
from luthien_guard.engine.asking import Overdue

__all__ = ["at_once", "within"]


async def within(
    clock: Clock,
    awaitable: Awaitable[Any],
    seconds: float,
    began: Callable[[Callable[[], None]], None],
) -> Any:
    """Raises Overdue, also for what takes its time with the processor and not with waiting. The seconds are those of the
    clock, and never more than real ones: a clock may stand still."""
    scope, ends = anyio.CancelScope(), 0.0

    def anew() -> None:
        nonlocal ends
        ends = clock() + seconds
        clock.until(ends, scope)
        scope.deadline = anyio.current_time() + seconds

    anew()
    with scope:
        began(anew)
        found = await awaitable
        if anyio.current_time() < scope.deadline and clock() < ends:
            return found
    raise Overdue


async def at_once(work: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """What each comes to, in their order."""
    found: list[Any] = [None] * len(work)

    async def do(at: int) -> None:
        found[at] = await work[at]()

    async with anyio.create_task_group() as tasks:
        for at in range(len(work)):
            tasks.start_soon(do, at)
    return found
