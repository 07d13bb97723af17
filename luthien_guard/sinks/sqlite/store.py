"""The embedded store, on the standard library's driver."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Final, TypeVar

from luthien_guard.errors import SinkError
from luthien_guard.sinks import positions
from luthien_guard.sinks.migrations import pending
from luthien_guard.sinks.sqlite import retention, statements
from luthien_guard.sinks.sqlite.batches import in_batches
from luthien_guard.sinks.sqlite.transactions import transaction
from luthien_guard.sinks.sqlite.values import line_of, readable, row_of
from luthien_guard.store import EVENT_COLUMNS, Call, CallFilter, Row, Written, begun, paged, plain, projected

__all__ = ["SqliteStore"]

T = TypeVar("T")

_columns: Final = attrgetter(*EVENT_COLUMNS)
_PAYLOAD: Final = itemgetter(1 + EVENT_COLUMNS.index("payload"))  # of a row behind its position

_PATIENCE: Final = 10.0
_AGAIN: Final = 0.02  # seconds


class SqliteStore:
    """Implements `Store`. `path` None: in memory, gone with the object. `patience`: seconds that a command waits for
    another process's."""

    remote = False

    def __init__(self, path: Path | None, *, patience: float = _PATIENCE) -> None:
        self.path = path
        self._patience = patience
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # what `path` named when it was opened
        self._files = 0  # that were opened instead of others
        self._lock = threading.Lock()

    def open(self) -> None:
        with self._lock:
            if self._db is None:
                with self._told():
                    self._db = self._patiently_connected()

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._db.close()
            self._db = self._file = None

    # -- rows in -------------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        def append(db: sqlite3.Connection) -> Written:
            # In WAL mode a commit is in the log at once, and on disk at once only with FULL: that syncs the log, and so
            # also what was committed with NORMAL before. No checkpoint is needed: a log that is whole is replayed.
            # (It cannot be changed inside a transaction.) https://sqlite.org/pragma.html#pragma_synchronous
            db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with transaction(db):
                kept, told = _without_pruned(db, rows)
                stored = in_batches(db, statements.INSERT_EVENT, list(map(_columns, kept)))
                conflicts = _conflicts(db, kept) if stored < len(kept) else ()
                refused = set(conflicts)
                told += [row for row in kept if row not in refused] if refused else kept
                in_batches(db, statements.UPSERT_CALL, statements.upserts(projected(told)))
            known = len(kept) - stored - len(conflicts)
            return Written(stored, known, conflicts, pruned=len(rows) - len(kept))

        with self._lock, self._told():
            if self._renewed(make=True):
                raise SinkError(f"sqlite {self.path}: the file was taken away, another one is written now")
            return append(self._opened())

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
            found = _fetched(db, statements.TAIL, (first, limit), _page)
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

    def _patiently_connected(self) -> sqlite3.Connection:
        """Going over to WAL and recovering a log need the file alone, and some of these steps ignore the busy handler:
        processes that open one file at once have to try again."""
        end = time.monotonic() + self._patience
        while True:
            try:
                return self._connect()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            time.sleep(_AGAIN)

    def _connect(self) -> sqlite3.Connection:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():  # a file that may only be read can still be asked
                self.path.touch(mode=0o600)
        # absolute: a relative `:memory:` would be no file
        where = ":memory:" if self.path is None else self.path.absolute().as_uri()
        still = self.path is not None and _on_read_only_disk(self.path)
        if still:  # a log in memory that others share is a file, too
            where += "?immutable=1"
        db = sqlite3.connect(
            where, timeout=self._patience, isolation_level=None, check_same_thread=False, uri=True
        )
        try:
            if not still:
                if not _version(db):  # it has an effect on a new file only, and takes the write lock of any
                    db.execute("PRAGMA auto_vacuum=INCREMENTAL")
                db.execute("PRAGMA journal_mode=WAL")
            db.create_function("contains", 2, statements.contains, deterministic=True)
            self._migrate(db)
            self._file = self._named()
        except BaseException:  # what was refused must not stay open
            db.close()
            raise
        return db

    def _named(self) -> tuple[int, int] | None:
        """The file (device, inode) that has our name now."""
        try:
            found = None if self.path is None else self.path.stat()
        except FileNotFoundError:
            return None
        return found and (found.st_dev, found.st_ino)

    def _renewed(self, *, make: bool = False) -> bool:
        """Go over to the file that has the name now: one that was deleted or replaced takes rows all the same, and nobody
        ever finds them. Where there is none it is made, or the old one asked on."""
        now = self._named()
        if self._file is None or (now is None and not make) or (self._db is not None and now == self._file):
            return False
        if self._db is not None:
            self._db.close()
        self._db = None  # stays so when there is no room for another one: it is tried again
        self._db = self._patiently_connected()
        self._files += 1
        return True

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            raise SinkError(f"sqlite {self.path}: it is not open")
        return self._db

    def _migrate(self, db: sqlite3.Connection) -> None:
        # looked at first without the lock: whoever only asks waits for no writer
        if _version(db) and not self._pending(db):
            return
        with transaction(db):
            db.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, applied_at REAL)"
            )
            for number, sql in self._pending(db):
                for statement in filter(str.strip, sql.split(";")):
                    db.execute(statement)
                db.execute("INSERT INTO schema_migrations VALUES (?, unixepoch('subsec'))", (number,))

    def _pending(self, db: sqlite3.Connection) -> list[tuple[int, str]]:
        return pending("luthien_guard.sinks.sqlite", _version(db), f"sqlite {self.path}")

    def _fetch(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._do(lambda db: _fetched(db, query, values))

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


def _on_read_only_disk(path: Path) -> bool:
    """Nobody writes there, so that nobody has to be waited for; a log that was left there could not be read."""
    flags = os.statvfs(path).f_flag if hasattr(os, "statvfs") and path.exists() else 0
    return bool(flags & getattr(os, "ST_RDONLY", 0)) and not path.with_name(f"{path.name}-wal").exists()


def _all(cursor: sqlite3.Cursor) -> list[Any]:
    return cursor.fetchall()


def _page(cursor: sqlite3.Cursor) -> list[Any]:
    with contextlib.closing(cursor):
        return list(paged(cursor, _PAYLOAD))


def _fetched(
    db: sqlite3.Connection,
    query: str,
    values: Sequence[Any],
    read: Callable[[sqlite3.Cursor], list[Any]] = _all,
) -> list[Any]:
    try:
        return read(db.execute(query, values))
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    db.text_factory = readable  # slow: only for who has to look at what somebody broke
    try:
        return read(db.execute(query, values))
    finally:
        db.text_factory = str


def _version(db: sqlite3.Connection) -> int:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'").fetchone():
        return 0
    return int(db.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchone()[0])


def _without_pruned(db: sqlite3.Connection, rows: Sequence[Row]) -> tuple[Sequence[Row], list[Row]]:
    """(the rows without those of calls that retention took, those of them whose call still has its line)"""
    if db.execute(statements.ANY_PRUNED).fetchone() is None:
        return rows, []
    late = json.dumps(list({row.call_id for row in rows} - begun(rows)))
    gone = {call_id for (call_id,) in db.execute(statements.GONE, (late,))}
    if not gone:
        return rows, []
    lines = {each for each in gone if db.execute(statements.HAS_LINE, (each,)).fetchone()}
    return [row for row in rows if row.call_id not in gone], [row for row in rows if row.call_id in lines]


def _conflicts(db: sqlite3.Connection, rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows whose key is there with another content."""
    query = "SELECT hash FROM conversation_events WHERE call_id = ? AND seq = ?"
    there = ((row, db.execute(query, (row.call_id, row.seq)).fetchone()) for row in rows)
    return tuple(row for row, found in there if found is not None and found[0] != row.hash)
