"""Drivers that know asyncio only, on a thread and a loop of their own: no cancellation of an exchange ever reaches one of
their connections, and applications on trio can use them."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.lowlevel import EventLoopToken, current_token

__all__ = ["DriverThread", "finished", "soon"]

T = TypeVar("T")


class DriverThread:
    """`start` and `stop` may come in any order and twice. A call while it is stopped raises RuntimeError."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._context: AbstractContextManager[BlockingPortal] | None = None

    @property
    def running(self) -> bool:
        return self._portal is not None

    @property
    def portal(self) -> BlockingPortal:
        if self._portal is None:
            raise RuntimeError("it is not open")
        return self._portal

    def start(self) -> None:
        with self._lock:
            if self._portal is None:
                self._context = start_blocking_portal("asyncio", name=self._name)
                self._portal = self._context.__enter__()

    def stop(self) -> None:
        """What still runs on it is cancelled."""
        with self._lock:
            portal, self._portal = self._portal, None
            context, self._context = self._context, None
            if portal is not None and context is not None:
                portal.call(portal.stop, True)
                context.__exit__(None, None, None)

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run it there, and wait for it here, in a thread without a loop."""
        return self.portal.call(work)

    async def awaited(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run it there, and await it in this loop, whichever it is. Cancelling here does not cancel there: it runs to its
        end, and what it finds is dropped."""
        future: Future[T] = self.portal.start_task_soon(work)
        return await finished(future)


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
