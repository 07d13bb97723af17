"""A clock that moves only when a test says so."""

from __future__ import annotations

import heapq
from itertools import count

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["VirtualClock"]


class VirtualClock:
    """`now` in seconds; waits that were made with `until` end when `advance` passes their moment.

    Give it to a guard as `clock`; then deadlines of minutes are tested in microseconds. With `autojump`, `run` lets time
    pass by itself while a hook waits and nothing else moves, until the hook is done or its deadline has passed. A hook
    that waits for a thread or a socket seems to wait for nobody: it is for hooks that wait for the test.
    """

    def __init__(self, start: float = 1000.0, *, autojump: bool = False) -> None:
        self.now = start
        self.autojump = autojump
        self._waits: list[tuple[float, int, anyio.CancelScope]] = []
        self._order = count()  # scopes do not compare

    def __call__(self) -> float:
        return self.now

    def until(self, when: float, scope: anyio.CancelScope | None = None) -> anyio.CancelScope:
        """A scope that is cancelled when this clock comes to `when` (seconds): `scope`, from now on, or a new one."""
        if scope is None:
            scope = anyio.CancelScope()
        else:
            self._waits = [wait for wait in self._waits if wait[2] is not scope]
            heapq.heapify(self._waits)
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
        self.now = max(self.now, end)
        await self.rest()

    async def rest(self) -> None:
        """Return when every other task waits for something."""
        # asyncio's `wait_all_tasks_blocked` polls slowly when tasks are still on their way.
        for _ in range(20):
            await checkpoint()
        await anyio.wait_all_tasks_blocked()
