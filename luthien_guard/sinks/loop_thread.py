"""Drivers on a loop of their own: no cancellation of a request ever reaches one of their connections, applications on
trio can use them, and who forgets to close one can still end."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- what the drivers know, on a thread of their own
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
from anyio.lowlevel import EventLoopToken, current_token

__all__ = ["LoopThread", "finished", "soon"]

T = TypeVar("T")

_FAREWELL: Final = 5.0  # seconds for what is cancelled at the end


@dataclass(frozen=True, slots=True)
class _Loop:
    loop: asyncio.AbstractEventLoop
    end: asyncio.Event
    thread: threading.Thread


class LoopThread:
    """`start` and `stop` may come in any order and twice. A question while it is stopped starts it, if it `wakes`, and
    raises RuntimeError otherwise."""

    def __init__(self, name: str, *, wakes: bool = False) -> None:
        self._name = name
        self._wakes = wakes
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        self._beside: set[asyncio.Task[None]] = set()  # a loop alone does not hold its tasks

    @property
    def running(self) -> bool:
        return self._loop is not None

    def start(self) -> None:
        with self._lock:
            self._loop = self._loop or self._started()

    def stop(self) -> None:
        """What still runs there is cancelled."""
        with self._lock:
            found, self._loop = self._loop, None
            if found is not None:
                found.loop.call_soon_threadsafe(found.end.set)
        if found is not None:
            found.thread.join(_FAREWELL)

    def promised(self, work: Callable[[], Awaitable[T]]) -> Future[T]:
        """Run it there, and do not wait. Cancelling the promise cancels it."""

        async def run() -> T:
            return await work()

        with self._lock:
            if self._loop is None and not self._wakes:
                raise RuntimeError("it is not open")
            found = self._loop = self._loop or self._started()
            # in a context of its own: who asks has another loop, and spans that are none of the driver's business
            return Context().run(asyncio.run_coroutine_threadsafe, run(), found.loop)

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run it there, and wait for it here, in a thread without a loop."""
        return self.promised(work).result()

    async def awaited(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run it there, and await it in this loop, whichever it is. Cancelling here does not cancel there: it runs to its
        end, and what it finds is dropped."""
        return await finished(self.promised(work))

    def beside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Called there: run it until `stop`."""
        task = asyncio.get_running_loop().create_task(work())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _started(self) -> _Loop:
        up: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def main() -> None:
            end = asyncio.Event()
            up.set_result((asyncio.get_running_loop(), end))
            await end.wait()

        thread = threading.Thread(target=lambda: asyncio.run(main()), name=self._name, daemon=True)
        thread.start()
        return _Loop(*up.result(), thread)


async def finished(future: Future[T]) -> T:
    """Wait in this loop for what another thread promised."""
    done, token = anyio.Event(), current_token()
    future.add_done_callback(lambda _: soon(token, done.set))
    await done.wait()
    return future.result()


def soon(token: EventLoopToken, call: Callable[[], object]) -> None:
    """Have the loop call it, and do not wait: `anyio.from_thread` does, and a loop that is busy would hold up whoever
    tells it something. A loop that has ended hears nothing."""
    native = token.native_token
    schedule = getattr(native, "call_soon_threadsafe", None) or getattr(native, "run_sync_soon", None)
    assert schedule is not None, f"{native!r} is no event loop"
    try:
        schedule(call)
    except RuntimeError:  # asyncio's for a closed loop; trio's RunFinishedError is one too
        pass
