"""Drivers on a loop of their own: no cancellation of a request ever reaches one of their connections, applications on
trio can use them, and who forgets to close one can still end."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- what the drivers ride on, on a thread of their own
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from luthien_guard.sinks.driver_thread import finished

__all__ = ["LoopThread"]

T = TypeVar("T")

_FAREWELL: Final = 5.0  # seconds for what is cancelled at the end


@dataclass(frozen=True, slots=True)
class _Loop:
    loop: asyncio.AbstractEventLoop
    end: asyncio.Event
    thread: threading.Thread


class LoopThread:
    """Starts with the first question, and again with one after `stop`, which cancels what runs there."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._beside: set[asyncio.Task[None]] = set()  # a loop alone does not hold its tasks

    @property
    def running(self) -> bool:
        return self._loop is not None

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run it there, and wait for it here, in a thread without a loop."""
        return self._promised(work).result()

    async def awaited(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run it there, and await it in this loop, whichever it is. Cancelling here does not cancel there: it runs to its
        end, and what it finds is dropped."""
        return await finished(self._promised(work))

    def beside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Called there: run it until `stop`."""
        task = asyncio.get_running_loop().create_task(work())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def stop(self) -> None:
        """May be called twice."""
        with self._lock:
            found, self._loop = self._loop, None
            if found is not None:
                found.loop.call_soon_threadsafe(found.end.set)
        if found is not None:
            found.thread.join(_FAREWELL)

    # ------------------------------------------------------------------------------------------------------------------

    def _promised(self, work: Callable[[], Awaitable[T]]) -> Future[T]:
        async def run() -> T:
            return await work()

        with self._lock:
            found = self._loop = self._loop or self._started()
            # in a context of its own: who asks has another loop, and spans that are none of the driver's business
            return Context().run(asyncio.run_coroutine_threadsafe, run(), found.loop)

    def _started(self) -> _Loop:
        up: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def main() -> None:
            end = asyncio.Event()
            up.set_result((asyncio.get_running_loop(), end))
            await end.wait()

        thread = threading.Thread(target=lambda: asyncio.run(main()), name=self._name, daemon=True)
        thread.start()
        return _Loop(*up.result(), thread)
