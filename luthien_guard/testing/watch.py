"""Looks after the hooks of a scripted exchange, as a shell does: none of them may wait for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from luthien_guard.clock import clock_from
from luthien_guard.control_plane.service import GuardedStream, Release
from luthien_guard.guard import Guard
from luthien_guard.testing.clock import VirtualClock

__all__ = ["Watch"]

T = TypeVar("T")
#: Real seconds between two looks. As many pass on a clock that does not move by itself, while one step waits.
POLL: Final = 0.5


class Watch:
    """Over one exchange. Its steps are made one after the other."""

    def __init__(self, guard: Guard) -> None:
        self._limits = guard.limits
        self._clock = guard.clock
        self._virtual = guard.clock if isinstance(guard.clock, VirtualClock) else None
        self._jumps = self._virtual is not None and self._virtual.autojump
        self._step: object = None  # what is waited for now
        self._scope = anyio.CancelScope()  # around the steps of one attempt
        self._stream: GuardedStream | None = None
        self._late: str | None = None

    async def over(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` returns, or raises: not in a group."""
        found: list[T] = []
        failed: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look)
            try:
                found.append(await work())
            except Exception as error:  # noqa: BLE001 -- raised anew
                failed = error
            tasks.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return found[0]

    async def step(self, work: Awaitable[T]) -> T:
        """One of which each hook has a deadline of its own."""
        self._step = work
        try:
            return await work
        finally:
            self._step = None

    async def decides(self, stream: GuardedStream, work: Awaitable[T]) -> T | Release:
        """Steps of an attempt that end, with the stream's answer to that, when a hook runs past its deadline. (One scope
        around them all: there is a step for each piece, and a piece may be a byte.)"""
        self._stream, self._late = stream, None
        with anyio.CancelScope() as self._scope:
            try:
                return await work
            finally:
                self._stream = None
        return await stream.fail(504, "policy_timeout", f"a policy took too long: {self._late}")

    async def closes(self, work: Awaitable[T]) -> T:
        """The last step, which has so many seconds as any shell gives it. Raises TimeoutError."""
        seconds = self._limits.close_timeout
        with clock_from(self._clock).until(self._clock() + seconds) as scope:
            scope.deadline = anyio.current_time() + seconds
            return await self.step(work)
        raise TimeoutError(f"on_exchange_closed took longer than {seconds:g} seconds")

    async def _look(self) -> None:
        before, seconds = None, POLL
        while True:
            step = self._step
            await self._rest()
            if step is None or step is not self._step:
                continue
            # of a clock that jumps, more and more: nobody knows for how long a hook may wait
            seconds = 2 * seconds if self._jumps and step is before else POLL
            before = step
            if self._virtual is not None:
                await self._virtual.advance(seconds)
            if step is self._step and self._stream is not None and (late := self._stream.overdue()):
                self._late = late
                self._scope.cancel()

    async def _rest(self) -> None:
        if self._virtual is not None and self._jumps:
            await self._virtual.rest()
        else:
            await anyio.sleep(POLL)
