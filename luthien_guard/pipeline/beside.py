"""What runs beside an application and ends with it: a few tasks and one alarm.

A task group with one task and a deadline takes an exchange 100 us on asyncio, as much as everything else that it needs.
There it is made of the loop's own tasks and timer; elsewhere, and on a clock that is not the loop's, of anyio's.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 -- used where it runs, and only there
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Final, Protocol, Self

import anyio

from luthien_guard.clock import Clock
from luthien_guard.pipeline.alarm import stop
from luthien_guard.pipeline.in_time import on_asyncio

__all__ = ["Beside", "Task", "beside"]

Work = Callable[..., Coroutine[Any, Any, None]]
Task = object  # of whichever kind
_NEVER: Final = float("inf")


class Beside(Protocol):
    """An async context manager. It ends when all of its tasks have; an exception in its body cancels them. The tasks
    must not raise."""

    def start(self, work: Work, /, *args: Any) -> None:
        """Run `work(*args)` as a task."""
        ...

    def meanwhile(self, work: Work, /) -> None:
        """Run `work()` as a task once somebody waits for anything: before, it would not get to do anything either. Where
        nobody ever does, it may never begin."""
        ...

    def running(self) -> Task:
        """The task that asks, which it has started."""
        ...

    def stop(self, task: Task) -> None:
        """Cancel that one, and again as long as it does not let go."""
        ...

    def wake_at(self, when: float) -> None:
        """Set the alarm, which calls what it was made for; `inf`: never. It has one moment at a time."""
        ...

    def cancel(self) -> None:
        """Cancel the tasks and the alarm; nothing starts any more."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def beside(clock: Clock, ring: Callable[[], None]) -> Beside:
    """`ring`: what the alarm calls. It must not raise."""
    return _OnAsyncio(clock, ring) if on_asyncio(clock) else _OnAnyio(clock, ring)


def _nothing() -> None:
    """What rings when all is over."""


class _OnAsyncio:
    __slots__ = ("_loop", "_now", "_over", "_ring", "_soon", "_tasks", "_timer")

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = clock
        self._ring = ring
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None  # what starts then
        self._over = False

    def start(self, work: Work, /, *args: Any) -> None:
        if not self._over:
            task = self._loop.create_task(work(*args))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def meanwhile(self, work: Work, /) -> None:
        self._soon = self._loop.call_soon(self.start, work)

    def running(self) -> Task:
        return asyncio.current_task(self._loop)

    def stop(self, task: Any) -> None:
        stop(task)

    def wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when != _NEVER and not self._over:
            self._timer = self._loop.call_later(max(0.0, when - self._now()), self._rings)

    def _rings(self) -> None:
        self._timer = None
        self._ring()

    def cancel(self) -> None:
        self.wake_at(_NEVER)
        if not self._over:  # once: what a task does after its cancellation is left alone
            self._over = True
            if self._soon is not None:
                self._soon.cancel()
            for task in tuple(self._tasks):
                task.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.cancel()
        cancelled: BaseException | None = None
        while running := [task for task in self._tasks if not task.done()]:
            try:
                await self._one_ended(running)
            except asyncio.CancelledError as late:  # nobody may be left behind
                cancelled = late
                self.cancel()
        self.cancel()
        self._ring = _nothing  # whoever it is knows its tasks
        if cancelled is not None:
            raise cancelled

    async def _one_ended(self, running: Iterable[asyncio.Task[None]]) -> None:
        ended = self._loop.create_future()

        def end(_: asyncio.Task[None]) -> None:
            if not ended.done():
                ended.set_result(None)

        for task in running:
            task.add_done_callback(end)
        await ended


class _OnAnyio:
    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._group = anyio.create_task_group()
        self._scopes: dict[int, anyio.CancelScope] = {}  # by task
        self._when = _NEVER
        self._wait: anyio.CancelScope | None = None
        self._moved = False
        self._sleeping = False  # the alarm has its task

    def start(self, work: Work, /, *args: Any) -> None:
        self._group.start_soon(self._run, work, *args)

    def meanwhile(self, work: Work, /) -> None:
        self.start(work)

    async def _run(self, work: Work, *args: Any) -> None:
        task = anyio.get_current_task().id
        with anyio.CancelScope() as self._scopes[task]:
            await work(*args)
        del self._scopes[task]

    def running(self) -> Task:
        return self._scopes[anyio.get_current_task().id]

    def stop(self, task: Any) -> None:
        task.cancel()

    def wake_at(self, when: float) -> None:
        self._when = when
        if not self._sleeping and when != _NEVER:
            self._sleeping = True
            self._group.start_soon(self._sleep)
        elif self._wait is not None:
            self._moved = True
            self._wait.cancel()

    async def _sleep(self) -> None:
        while self._when != _NEVER:
            self._moved = False
            with self._clock.until(self._when) as self._wait:
                await anyio.sleep_forever()
            self._wait = None
            if not self._moved:
                self._when = _NEVER
                self._ring()
        self._sleeping = False

    def cancel(self) -> None:
        self._group.cancel_scope.cancel()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._when != _NEVER:
            self.wake_at(_NEVER)
        await self._group.__aexit__(kind, error, trace)
