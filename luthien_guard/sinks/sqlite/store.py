"""The embedded store, on the standard library's driver."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from luthien_guard.errors import SinkError
from luthien_guard.sinks import positions
from luthien_guard.sinks.sqlite import retention, statements
from luthien_guard.sinks.sqlite.connecting import File, connected, named
from luthien_guard.sinks.sqlite.reading import fetched, page
from luthien_guard.sinks.sqlite.values import line_of, row_of
from luthien_guard.sinks.sqlite.writing import append
from luthien_guard.store import Call, CallFilter, Row, Written, plain

__all__ = ["SqliteStore"]

T = TypeVar("T")

_PATIENCE: Final = 10.0


class SqliteStore:
    """Implements `Store`. `path` None: in memory, gone with the object. `patience`: seconds that a command waits for
    another process's."""

    remote = False

    def __init__(self, path: Path | None, *, patience: float = _PATIENCE) -> None:
        self.path = path
        self._patience = patience
        self._db: sqlite3.Connection | None = None
        self._file: File | None = None  # what `path` named when it was opened
        self._files = 0  # that were opened instead of others
        self._lock = threading.Lock()

    def open(self) -> None:
        with self._lock:
            if self._db is None:
                with self._told():
                    self._db, self._file = connected(self.path, self._patience)

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._db.close()
            self._db = self._file = None

    # -- rows in -------------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        with self._lock, self._told():
            if self._renewed(make=True):
                raise SinkError(f"sqlite {self.path}: the file was taken away, another one is written now")
            return append(self._opened(), rows, durable=durable)

    # -- calls and rows out --------------------------------------------------------------------------------------------

    def call(self, call_id: str) -> Call | None:
        found = self._fetch(f"{statements.SELECT_CALLS} WHERE call_id = ?", (plain(call_id),))
        return line_of(found[0]) if found else None

    def calls(self, wanted: CallFilter) -> list[Call]:
        where, values = statements.conditions(wanted)
        found = self._fetch(
            f"{statements.SELECT_CALLS} {where} ORDER BY call_id DESC LIMIT ?", (*values, wanted.limit)
        )
        return [line_of(each) for each in found]

    def rows(self, call_id: str, *, after: int = -1) -> list[Row]:
        where = "WHERE call_id = ? AND seq > ? ORDER BY seq"
        return [
            row_of(each)
            for each in self._fetch(f"{statements.SELECT_EVENTS} {where}", (plain(call_id), after))
        ]

    def tail(self, position: int | None = None, *, limit: int = 500) -> tuple[int, list[Row]]:
        # numbers are given out inside the one write transaction that there can be: none is ever skipped
        if position is None:
            ((last,),) = self._fetch(statements.LAST)
            return positions.position(self._files, positions.after_row(last)), []
        with self._lock, self._told():
            db = self._opened()
            file, place = positions.split(position)
            first = positions.next_row(place if file == self._files else 0)
            found = fetched(db, statements.TAIL, (first, limit), page)
            if found:
                position = positions.position(self._files, positions.after_row(found[-1][0]))
            elif self._renewed():  # all of the old one was seen
                position = positions.position(self._files, 0)
            return position, [row_of(each[1:]) for each in found]

    def unfinished(self, writer: str | None = None) -> list[str]:
        query = "SELECT call_id FROM conversation_calls WHERE ended_at IS NULL AND (? IS NULL OR writer = ?)"
        found = self._fetch(f"{query} ORDER BY call_id", (writer, writer))
        return [call_id for (call_id,) in found if isinstance(call_id, str) and plain(call_id) == call_id]

    def pruned(self) -> str | None:
        last: str | None = self._fetch(statements.LAST_PRUNED)[0][0]
        return last

    def stats(self) -> Mapping[str, Any]:
        (found,) = self._fetch(statements.STATS)
        names = ("calls", "events", "oldest", "newest", "schema")
        return {**dict(zip(names, found, strict=True)), "bytes": self._bytes()}

    # -- retention -----------------------------------------------------------------------------------------------------

    def prune(
        self,
        *,
        before: float | None = None,
        max_bytes: int | None = None,
        events_only: bool = False,
        seen: int | None = None,
    ) -> int:
        count = 0
        end = None if seen is None else self._row_behind(seen)
        if before is not None:
            count += retention.by_age(self._do, before, events_only, end)
        if max_bytes is not None:
            count += retention.by_size(self._do, max_bytes, events_only, end)
        self._do(lambda db: db.execute("PRAGMA incremental_vacuum").fetchall())
        return count

    def _row_behind(self, position: int) -> int | None:
        """The number of the first row behind a position of the tail."""
        file, place = positions.split(position)
        if file != self._do(lambda _: self._files):
            raise SinkError(f"sqlite {self.path}: the file was replaced since it was read")
        return positions.next_row(place)

    def _bytes(self) -> int:
        return self._do(retention.size)

    # -- the file ------------------------------------------------------------------------------------------------------

    def _renewed(self, *, make: bool = False) -> bool:
        """Go over to the file that has the name now: one that was deleted or replaced takes rows all the same, and nobody
        ever finds them. Where there is none it is made, or the old one asked on."""
        now = named(self.path)
        if self._file is None or (now is None and not make) or (self._db is not None and now == self._file):
            return False
        if self._db is not None:
            self._db.close()
        self._db = None  # stays so when there is no room for another one: it is tried again
        self._db, self._file = connected(self.path, self._patience)
        self._files += 1
        return True

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            raise SinkError(f"sqlite {self.path}: it is not open")
        return self._db

    def _fetch(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._do(lambda db: fetched(db, query, values))

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, self._told():
            self._renewed()
            return work(self._opened())

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
            # the last two: what the driver says of text that is no Unicode and of numbers past 64 bits
            raise SinkError(f"sqlite {self.path}: {error}") from None
