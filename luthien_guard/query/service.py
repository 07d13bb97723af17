"""The query service: every surface (command line, web) asks through it, over any store."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final, TypeVar

import anyio
from anyio import to_thread

from luthien_guard.query.audit import Finding, Report, audit
from luthien_guard.query.diff import Diff, diff_of
from luthien_guard.store import Call, CallFilter, Row, Store

__all__ = ["Query"]

T = TypeVar("T")

_POLL: Final = 0.2  # seconds between two looks at a store that is followed
_PAGE: Final = 500


class Query:
    """Asks a store, on a connection of its own and in a worker thread, so that no question holds up traffic. Methods
    raise SinkError."""

    def __init__(
        self, make: Callable[[], Store], give_back: Callable[[Store], None] = lambda store: store.close()
    ) -> None:
        self._make = make  # a store of its own, or the one of the process where there can be only one
        self._give_back = give_back  # closes it, if nobody else uses it
        self._store: Store | None = None
        self._lock = threading.Lock()  # one question at a time

    async def calls(self, **wanted: Any) -> list[Call]:
        """Newest first. Arguments are the fields of `CallFilter`."""
        return await self._ask(lambda store: store.calls(CallFilter(**wanted)))

    async def call(self, call_id: str) -> Call | None:
        """The line of a call, by its whole id."""
        return await self._ask(lambda store: store.call(call_id))

    async def events(self, call_id: str, *, after: int = -1) -> list[Row]:
        """The facts of a call, in order."""
        return await self._ask(lambda store: store.rows(call_id, after=after))

    async def diff(self, call_id: str) -> Diff:
        """What was changed between the two ends of the request and of the response, and by which policy."""
        return diff_of(call_id, await self.events(call_id))

    async def stats(self) -> Mapping[str, Any]:
        """`Store.stats`: how much there is, from when to when (Unix seconds)."""
        return await self._ask(lambda store: store.stats())

    async def verify(self, call_id: str | None = None) -> list[Finding]:
        """What is wrong with the chains (of one call, or of all); empty when nothing is."""
        return (await self.audit(call_id)).findings

    async def audit(
        self, call_id: str | None = None, *, progress: Callable[[Report], None] | None = None
    ) -> Report:
        """The same, with what was looked at; `progress` is called from the worker thread, now and then."""
        return await self._ask(lambda store: audit(store, call_id, progress=progress))

    async def find(self, part: str, *, limit: int = 10) -> list[str]:
        """The ids of calls that begin or end with `part`, newest first; only the one that is all of it, if there is
        one."""
        return await self._ask(lambda store: _found(store, part, limit))

    async def position(self) -> int:
        """Where the store's tail ends now, for `follow`."""
        return await self._ask(lambda store: store.tail()[0])

    async def follow(self, position: int | None = None) -> AsyncGenerator[Row, None]:
        """Rows as they are stored, from `position` (of the store's tail) or from now on, until the caller stops
        (`contextlib.aclosing`)."""
        if position is None:
            position = await self.position()
        while True:
            start = position
            position, rows = await self._ask(lambda store, start=start: store.tail(start))  # type: ignore[misc]
            for row in rows:
                yield row
            if not rows:
                await anyio.sleep(_POLL)

    async def close(self) -> None:
        """Give the connection back. A later question opens another one."""
        store, self._store = self._store, None
        if store is not None:
            await to_thread.run_sync(self._give_back, store)

    async def _ask(self, question: Callable[[Store], T]) -> T:
        def answer() -> T:
            with self._lock:
                if self._store is None:
                    store = self._make()
                    store.open()
                    self._store = store
                return question(self._store)

        return await to_thread.run_sync(answer)


def _found(store: Store, part: str, limit: int) -> list[str]:
    if not part or store.call(part) is not None:
        return [part] if part else []
    found: list[str] = []
    before: str | None = None
    while len(found) < limit and (page := store.calls(CallFilter(named=part, before=before, limit=_PAGE))):
        found += [
            each.call_id for each in page if each.call_id.startswith(part) or each.call_id.endswith(part)
        ]
        before = page[-1].call_id
    return found[:limit]
