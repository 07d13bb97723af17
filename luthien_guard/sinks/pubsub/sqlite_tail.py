"""`sqlite:///path`: the workers on one machine share a file, and its end is what they watch. No broker, nothing to send."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.to_thread import run_sync

from luthien_guard.pubsub import Notice
from luthien_guard.sinks.pubsub.mailbox import gap
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import Row, Store

__all__ = ["TailPubSub", "from_url"]

_PAUSE: Final = 0.1  # seconds between two looks
_MOST: Final = 500  # rows at a look
_DIGITS: Final = 100  # of a position


def from_url(url: str) -> TailPubSub:
    """A hub on the store that has this URL. Raises ConfigError."""
    open_store(url)  # told now if it is wrong
    return TailPubSub(lambda: open_store(url))


class TailPubSub:
    """Implements `PubSub` on any store that can be read while others write to it: `make` gives a new reader, closed."""

    def __init__(self, make: Callable[[], Store], *, pause: float = _PAUSE) -> None:
        self._make = make
        self._pause = pause
        self._closed = threading.Event()

    def open(self) -> None:
        pass

    def publish(self, notices: Sequence[Notice]) -> None:
        """Nothing to do: what was stored is there to see."""

    def close(self) -> None:
        self._closed.set()
        self._closed = threading.Event()  # of those who subscribe from now on

    @asynccontextmanager
    async def subscribe(self, *, after: str | None = None) -> AsyncGenerator[AsyncIterator[Notice]]:
        store, closed = self._make(), self._closed
        try:
            await run_sync(store.open)
            tail = _Tail(store, self._pause, closed)
            await run_sync(tail.start, after)
            yield tail
        finally:
            with anyio.CancelScope(shield=True):
                await run_sync(store.close)


class _Tail:
    """The rows behind a position. An id says where the look began that found the row, and which row it was."""

    def __init__(self, store: Store, pause: float, closed: threading.Event) -> None:
        self._store = store
        self._pause = pause
        self._closed = closed
        self._position = 0
        self._found: deque[Notice] = deque()

    def start(self, after: str | None) -> None:
        self._position = self._store.tail()[0]
        if after is not None and not self._resumed(after):
            self._found.append(gap(f"{self._position}/-1/"))

    def _resumed(self, after: str) -> bool:
        """Go on behind that row. False when there is no such row any more."""
        place, _, wanted = after.partition("/")
        if not place.isdecimal() or len(place) > _DIGITS or int(place) > self._position:
            return False
        position, rows = self._store.tail(int(place), limit=_MOST)
        names = [_name(row) for row in rows]
        if wanted not in [*names, "-1/"]:
            return False
        self._position = position
        self._found.extend(_notices(place, rows)[names.index(wanted) + 1 if wanted in names else 0 :])
        return True

    def __aiter__(self) -> _Tail:
        return self

    async def __anext__(self) -> Notice:
        while not self._found:
            if self._closed.is_set():
                raise StopAsyncIteration
            await run_sync(self._look)
            if not self._found:
                await anyio.sleep(self._pause)
        return self._found.popleft()

    def _look(self) -> None:
        place = self._position
        self._position, rows = self._store.tail(place, limit=_MOST)
        self._found.extend(_notices(str(place), rows))


def _name(row: Row) -> str:
    return f"{row.seq}/{row.call_id}"


def _notices(place: str, rows: Sequence[Row]) -> list[Notice]:
    return [
        Notice(f"{place}/{_name(row)}", row.call_id, row.seq, row.at, row.event_type, row.policy)
        for row in rows
    ]
