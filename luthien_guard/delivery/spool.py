"""The file between the journal and a remote store: rows wait here, durable, until the store has taken them."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from luthien_guard.errors import SinkError
from luthien_guard.sinks.sqlite.batches import Insert, in_batches
from luthien_guard.store import EVENT_COLUMNS, Row, Written, paged

__all__ = ["Spool"]

logger = logging.getLogger("luthien_guard")
T = TypeVar("T")

_NAMES: Final = ", ".join(EVENT_COLUMNS)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS spool (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    call_id TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, event_type TEXT NOT NULL, policy TEXT,
    payload TEXT NOT NULL, prev_hash TEXT NOT NULL, hash TEXT NOT NULL,
    UNIQUE (call_id, seq)
)
"""
_FILES: Final = ("", "-wal", "-shm")
_INSERT: Final = Insert("spool", EVENT_COLUMNS, "ON CONFLICT DO NOTHING")


class Spool:
    """A queue of rows in an SQLite file. Methods raise SinkError; any thread may call them."""

    def __init__(self, path: Path, *, max_bytes: int = 1 << 30) -> None:
        self.path = path
        self.full = False  # no room for content any more: pages in use, against the limit
        self.salvaged = 0  # rows that came out of damaged files
        self._lost = 0  # rows that did not, and that nobody has counted yet
        self._max = max_bytes
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._running = False
        self._aside: list[
            tuple[Path, int]
        ] = []  # damaged files and the rows that were in them: still to be read
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def open(self) -> None:
        """Open the file. A damaged one is put aside, and what can be read of it goes into the new one."""
        with self._lock:
            self._running = True
            self._opened()

    def _opened(self) -> None:
        try:
            self._db = self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                raise SinkError(f"spool {self.path}: {error}") from None
            self._replace(str(error))

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        """Append the rows; those that are there already stay as they are."""
        values = [tuple(getattr(row, name) for name in EVENT_COLUMNS) for row in rows]

        def insert(db: sqlite3.Connection) -> int:
            db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with db:
                stored = in_batches(db, _INSERT, values)
            self._measured(db, stored)
            return stored

        stored = self._do(insert)
        return Written(stored, len(rows) - stored)

    def peek(self, limit: int = 500) -> list[tuple[int, Row]]:
        """The oldest rows with their positions: `limit` of them, or fewer where they are large."""
        query = f"SELECT position, {_NAMES} FROM spool ORDER BY position LIMIT ?"

        def read(db: sqlite3.Connection) -> list[tuple[int, Row]]:
            with contextlib.closing(db.execute(query, (limit,))) as cursor:
                found = ((position, Row(*columns)) for position, *columns in cursor)
                return list(paged(found, lambda each: each[1].payload))

        return self._do(read)

    def forget(self, positions: Sequence[int]) -> None:
        """The store has them."""

        def delete(db: sqlite3.Connection) -> None:
            with db:
                gone = db.executemany("DELETE FROM spool WHERE position = ?", [(each,) for each in positions])
            self._measured(db, -gone.rowcount)

        self._do(delete)

    def lost(self) -> int:
        """How many rows went with damaged files since it was asked last."""
        with self._lock:
            lost, self._lost = self._lost, 0
        return lost

    def close(self) -> None:
        with self._lock:
            self._running = False
            if self._db is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._db.close()
                self._db = None

    def remove(self) -> None:
        """Its files: nobody needs them any more."""
        for end in _FILES:
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)

    # -- the file ------------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.touch(mode=0o600)
        db = sqlite3.connect(self.path, check_same_thread=False, timeout=5.0)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            if (found := db.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
            db.execute(_SCHEMA)
            self._count = 0
            self._measured(db, db.execute("SELECT count(*) FROM spool").fetchone()[0])
        except BaseException:
            db.close()
            raise
        return db

    def _measured(self, db: sqlite3.Connection, more: int) -> None:
        """Whose transaction it was measures: traffic asks whether there is room, and must not wait for the disk."""
        self._count += more
        pages, free, size = (
            int(db.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        # a deleted row's pages are used again
        self.full = self._count > 0 and (pages - free) * size >= self._max

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            if self._db is None:
                if not self._running:
                    raise SinkError(f"spool {self.path}: it is not open")
                self._renew("it was put aside") if self._aside else self._opened()
            assert self._db is not None
            try:
                return work(self._db)
            except sqlite3.Error as error:
                # After a failed fsync nobody knows what is on disk: never write there again.
                if _is_damage(error):
                    self._replace(str(error))
                raise SinkError(f"spool {self.path}: {error}") from None

    def _replace(self, problem: str) -> None:
        """Put the file aside, and begin another one with what can be read of it."""
        logger.error("spool %s is damaged and is put aside: %s", self.path, problem)
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        try:
            if self._db is not None:
                self._db.close()
            self._db = None
            for end in _FILES:
                part = self.path.with_name(self.path.name + end)
                if part.exists():
                    part.rename(aside.with_name(aside.name + end))
        except (sqlite3.Error, OSError) as error:
            raise SinkError(f"spool {self.path}: {problem}; it cannot be put aside: {error}") from None
        self._aside.append((aside, self._count))
        self._renew(problem)

    def _renew(self, problem: str) -> None:
        """Where there is no room for another file now, whoever needs it next tries again."""
        try:
            self._db = self._connect()
            while self._aside:
                aside, held = self._aside[0]
                with self._db:
                    values = list(_readable(aside))
                    found = in_batches(self._db, _INSERT, values)
                self._measured(self._db, found)
                self.salvaged += found
                self._lost += max(held - found, 0)
                del self._aside[0]
        except (sqlite3.Error, OSError) as error:
            if self._db is not None:
                self._db.close()
            self._db = None
            raise SinkError(f"spool {self.path}: {problem}; a new one cannot be made: {error}") from None


def _is_damage(error: sqlite3.Error) -> bool:
    return type(error) is sqlite3.DatabaseError or "disk I/O error" in str(error) or "malformed" in str(error)


def _readable(path: Path) -> Iterator[tuple[Any, ...]]:
    """The rows of a damaged file, one by one, as far as they can be read."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
        last = db.execute("SELECT max(position) FROM spool").fetchone()[0] or 0
        for position in range(1, last + 1):
            with contextlib.suppress(sqlite3.Error):
                found = db.execute(f"SELECT {_NAMES} FROM spool WHERE position = ?", (position,)).fetchone()
                if found is not None:
                    yield found
