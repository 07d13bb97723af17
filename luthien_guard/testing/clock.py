"""A clock that moves only when a test says so."""

from __future__ import annotations

import heapq
from itertools import count

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["VirtualClock"]


class VirtualClock:
    """`now` in seconds; waits that were made with `until` end when `advance` passes their moment.

    Give it to a guard as `clock`; then deadlines of minutes are tested in microseconds.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start
        self._waits: list[tuple[float, int, anyio.CancelScope]] = []
        self._order = count()  # scopes do not compare

    def __call__(self) -> float:
        return self.now

    def until(self, when: float) -> anyio.CancelScope:
        scope = anyio.CancelScope()
        if when <= self.now:
            scope.cancel()
        elif when != float("inf"):
            heapq.heappush(self._waits, (when, next(self._order), scope))
        return scope

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, stopping at every moment that somebody waits for until all tasks rest again."""
        end = self.now + seconds
        await self.rest()
        while self._waits and self._waits[0][0] <= end:
            when, _, scope = heapq.heappop(self._waits)
            self.now = max(self.now, when)
            scope.cancel()
            await self.rest()
        self.now = end
        await self.rest()

    async def rest(self) -> None:
        """Return when every other task waits for something."""
        # asyncio's `wait_all_tasks_blocked` polls slowly when tasks are still on their way.
        for _ in range(20):
            await checkpoint()
        await anyio.wait_all_tasks_blocked()
