"""Beside the work for a client: whether the client is still there, and whether there is time left.

On asyncio, where nearly every gateway runs, neither a task nor a timer is made before the upstream has had a moment: what
is made while everybody waits for a model costs no time.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 -- timers and tasks that cost a tenth of a task group's
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from luthien_guard.asgi.request import has_left
from luthien_guard.asgi.types import Receive

__all__ = ["kept"]

logger = logging.getLogger("luthien_guard")

_MOMENT: Final = 0.05  # seconds
_SHORTEST: Final = 0.01

Work = Callable[[anyio.CancelScope], Awaitable[None]]
TimeLeft = Callable[[], float]


async def kept(work: Work, receive: Receive, time_left: TimeLeft, every: float) -> bool:
    """Await `work(scope)`, and cancel it when the client is gone, or when `time_left()` (seconds) is not more than 0. False
    in the latter case. It is asked when it may have come to that, and `every` so many seconds: it may shrink meanwhile.

    Work that may find what it waits for there already, again and again, has to look at `scope.cancel_called`: on asyncio no
    cancellation reaches who is about to go on."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return await _kept_anywhere(work, receive, time_left, every)
    scope = anyio.CancelScope()
    vigil = _Vigil(loop, scope, receive, time_left, every)
    try:
        with scope:
            await work(scope)
    finally:
        vigil.end()
    return not vigil.is_late


class _Vigil:
    """Timers of the loop and, after a moment, one task."""

    __slots__ = ("_every", "_listener", "_loop", "_receive", "_scope", "_time_left", "_timer", "is_late")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scope: anyio.CancelScope,
        receive: Receive,
        time_left: TimeLeft,
        every: float,
    ) -> None:
        self.is_late = False
        self._every = every
        self._loop = loop
        self._scope = scope
        self._receive = receive
        self._time_left = time_left
        self._listener: asyncio.Task[None] | None = None
        self._timer = loop.call_later(_MOMENT, self._begin)

    def end(self) -> None:
        self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()

    def _begin(self) -> None:
        self._listener = self._loop.create_task(self._listen())
        self._look()

    def _look(self) -> None:
        left = self._time_left()
        if left > 0:
            self._timer = self._loop.call_later(max(_SHORTEST, min(left, self._every)), self._look)
        else:
            self.is_late = True
            self._scope.cancel()

    async def _listen(self) -> None:
        try:
            await _gone(self._receive)
        except Exception:
            logger.debug("the server's receive failed", exc_info=True)
        self._scope.cancel()


async def _kept_anywhere(work: Work, receive: Receive, time_left: TimeLeft, every: float) -> bool:
    late = False

    async def watch(scope: anyio.CancelScope) -> None:
        nonlocal late
        while not late:
            with anyio.move_on_after(max(_SHORTEST, min(time_left(), every))):
                await _gone(receive)
                break
            late = time_left() <= 0
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, tasks.cancel_scope)
        await work(tasks.cancel_scope)
        tasks.cancel_scope.cancel()
    return not late


async def _gone(receive: Receive) -> None:
    if not await has_left(receive):
        await anyio.sleep_forever()
