"""litellm's sync function for `completion`: called, and its stream read, in a thread beside the event loop.

So a sync client, a provider that is only sync, and a guarded call inside of a guarded call work as with litellm itself.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - litellm runs on asyncio alone, and so does its client
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

from luthien_guard.client.dialects import Chat, Dialect
from luthien_guard.client.litellm_api import function, litellm
from luthien_guard.client.parameters import unvalidated

__all__ = ["SYNC_CHAT"]

_END: Final = object()
_Work = tuple["Future[Any]", Context, Callable[[], Any]]


class _Worker:
    """One thread that does one thing after another. A daemon: where nobody waits any more (a time-out, an interrupt),
    litellm may still be in the middle of something that it cannot be called back from, and the process may end."""

    def __init__(self) -> None:
        self._todo: SimpleQueue[_Work | None] = SimpleQueue()
        Thread(target=_run, args=(self._todo,), name="luthien_guard.litellm", daemon=True).start()

    async def do(self, function: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()
        self._todo.put((done, copy_context(), function))
        return await asyncio.wrap_future(done)

    def end(self) -> None:
        """Let the thread end after what it is at. Idempotent."""
        self._todo.put(None)


def _run(todo: SimpleQueue[_Work | None]) -> None:
    while (work := todo.get()) is not None:
        done, context, function = work
        if done.set_running_or_notify_cancel():
            try:
                done.set_result(context.run(function))
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                done.set_exception(error)
        del work, done, context, function  # while it waits, the thread keeps no stream alive


class _ThreadedStream:
    """A sync stream of litellm's as an async one. Everything else about it is litellm's own."""

    def __init__(self, stream: Any, worker: _Worker) -> None:
        self._stream = stream
        self._worker = worker

    def __aiter__(self) -> _ThreadedStream:
        return self

    async def __anext__(self) -> Any:
        chunk = await self._worker.do(lambda: next(self._stream, _END))
        if chunk is _END:  # StopIteration cannot cross a future
            self._worker.end()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Close upstream's connection. Idempotent."""
        self._worker.end()
        await self._stream.aclose()  # sync and async streams are one class, which closes both

    def __del__(self) -> None:
        self._worker.end()

    def __getattr__(self, name: str) -> Any:
        if name in ("_stream", "_worker"):
            raise AttributeError(name)
        return getattr(self._stream, name)


class _SyncChat(Chat):
    """`CHAT`, asked through `litellm.completion`."""

    async def call(self, given: dict[str, Any]) -> Any:
        worker = _Worker()
        try:
            answer = await worker.do(lambda: function("completion")(**unvalidated(given)))
        except BaseException:
            worker.end()
            raise
        if isinstance(answer, litellm().CustomStreamWrapper):
            return _ThreadedStream(answer, worker)
        worker.end()
        return answer


SYNC_CHAT: Final[Dialect] = _SyncChat()
