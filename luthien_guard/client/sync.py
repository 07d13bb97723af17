"""`completion` for code without an event loop: the same exchange, on one loop in a thread that all such calls share.

One loop for all: litellm keeps its connections per loop, so that a loop for each call would connect anew for each.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from typing import Any

import anyio
from anyio import to_thread
from anyio.from_thread import BlockingPortal

from luthien_guard.client.litellm_api import litellm
from luthien_guard.forks import Lock

__all__ = ["run_sync"]


class _Loop:
    """An event loop in a daemon thread, which does not keep the process alive."""

    def __init__(self) -> None:
        self.portal: BlockingPortal
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="luthien_guard.completion", daemon=True)
        self._thread.start()
        self._ready.wait()
        atexit.register(self.stop)

    def _run(self) -> None:
        anyio.run(self._serve, backend="asyncio")

    async def _serve(self) -> None:
        async with BlockingPortal() as portal:
            self.portal = portal
            self._ready.set()
            await portal.sleep_until_stopped()

    def call(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """The result of `await function()` there; an interrupt of the waiting thread cancels it. Raises RuntimeError
        in the loop's own thread, which cannot wait for itself."""
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "a policy of a guarded `completion` cannot call `completion` itself: await `acompletion` in an "
                "async hook, or call it in a thread"
            )
        future = self.portal.start_task_soon(function)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop. Idempotent."""
        if self._thread.is_alive():
            self.portal.start_task_soon(self.portal.stop, True)
            self._thread.join(timeout=5)


@cache
def _loop() -> _Loop:
    return _Loop()


_lock = Lock()


def _shared() -> _Loop:
    with _lock:  # `cache` alone may make two
        return _loop()


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_loop.cache_clear)


def run_sync(function: Callable[[], Awaitable[Any]]) -> Any:
    """The result of the async function; an async stream becomes a plain iterator."""
    loop = _shared()
    result = loop.call(function)
    return _sync_type()(loop, result) if hasattr(result, "__anext__") else result


class SyncIterator:
    """A guarded stream, read without an event loop."""

    def __init__(self, loop: _Loop, stream: Any) -> None:
        self._loop = loop
        self._stream = stream

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        chunk = self._loop.call(self._next)
        if chunk is _END:  # StopIteration cannot cross a future
            raise StopIteration
        return chunk

    async def _next(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            return _END

    def close(self) -> None:
        """Close upstream and the exchange. Idempotent."""
        self._loop.call(self._stream.aclose)

    async def aclose(self) -> None:
        """The same beside an event loop, without standing still: litellm's streams of both kinds have it."""
        await to_thread.run_sync(self.close)

    def __aiter__(self) -> Any:
        raise TypeError("a stream of `completion` is read with `for`")

    async def __anext__(self) -> Any:
        raise TypeError("a stream of `completion` is read with `for`")

    def __del__(self) -> None:
        """The stream's own finaliser warns and closes."""

    def __getattr__(self, name: str) -> Any:
        stream = self.__dict__.get("_stream")
        if stream is None:
            raise AttributeError(name)
        return getattr(stream, name)


_END = object()


@cache
def _sync_type() -> type[SyncIterator]:
    return type("GuardedSyncStream", (SyncIterator, litellm().CustomStreamWrapper), {"__module__": __name__})
