"""What waits for one subscriber: filled from any thread, emptied in the subscriber's own loop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

import anyio
from anyio.lowlevel import current_token

from luthien_guard.pubsub import GAP, Notice
from luthien_guard.sinks.loop_thread import soon

__all__ = ["Mailbox", "gap"]


def gap(id: str, at: float = 0.0) -> Notice:
    """Some were lost; `id` is where to resume after them."""
    return Notice(id, "", -1, at, GAP)


class Mailbox:
    """An async iterator, made in the loop that reads it. Holds `size` notices; what comes to a full one is lost, and the
    reader finds a GAP in its place."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[Notice] = deque()
        self._lost: Notice | None = None  # the last that was: nothing is taken before the reader knows
        self._ended: BaseException | None = None
        self._lock = threading.Lock()
        self._token = current_token()
        self._news = anyio.Event()
        self._told = False

    def put(self, notices: Iterable[Notice]) -> None:
        """From any thread; never waits."""
        with self._lock:
            if self._ended is None:
                for notice in notices:
                    if self._lost is not None or len(self._waiting) >= self._size:
                        self._lost = notice
                    else:
                        self._waiting.append(notice)
                self._tell()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing comes any more; the reader finds that out after what is there. From any thread."""
        with self._lock:
            if self._ended is None:
                self._ended = error or StopAsyncIteration()
                self._tell()

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            soon(self._token, self._news.set)

    def __aiter__(self) -> Mailbox:
        return self

    async def __anext__(self) -> Notice:
        while (found := self._next()) is None:
            await self._news.wait()
        # A reader that is never out of work must not have the loop for itself.
        await anyio.lowlevel.checkpoint()
        return found

    def _next(self) -> Notice | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self._lost is not None:
                lost, self._lost = self._lost, None
                return gap(lost.id, lost.at)
            if self._ended is not None:
                raise self._ended
            if self._told:  # an event is set once
                self._told, self._news = False, anyio.Event()
            return None
