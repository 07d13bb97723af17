"""`sqlite:///path`: the workers of one machine. One small transaction a question, in a thread: another process may hold
the file."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio
from anyio import to_thread

from luthien_guard.errors import SinkError
from luthien_guard.gateway.shared.pace import MICRO, Pace, taken
from luthien_guard.sinks.urls import file_of

__all__ = ["SqliteShared", "from_url"]

T = TypeVar("T")

_BUSY: Final = 2.0  # seconds that another process may hold the file
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS buckets (id TEXT PRIMARY KEY, full_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS workers (
    fleet TEXT NOT NULL, worker TEXT NOT NULL, version TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (fleet, worker)
) STRICT, WITHOUT ROWID;
"""


def from_url(url: str) -> SqliteShared:
    """Raises ConfigError."""
    return SqliteShared(file_of(url, "sqlite", "db"))


class SqliteShared:
    """Implements `Shared`. What the file forgets when the machine fails is no loss, so nothing waits for the disk; a file
    that is taken away is made anew."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self.at_once = 1
        self._path = path
        self._lock = threading.Lock()
        self._one: anyio.CapacityLimiter | None = None
        self._database: sqlite3.Connection | None = None
        self._own: int | None = None  # the inode of the file that is open

    async def take(self, bucket: str, pace: Pace) -> float:
        return await self._in_thread(partial(_take, bucket, pace))

    async def announce(self, fleet: str, worker: str, version: str, seconds: float) -> Mapping[str, str]:
        return await self._in_thread(partial(_announce, fleet, worker, version, seconds))

    def close(self) -> None:
        with self._lock:
            self._dropped()

    # ------------------------------------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._one = self._one or anyio.CapacityLimiter(1)
        return await to_thread.run_sync(self._run, work, abandon_on_cancel=True, limiter=self._one)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                database = self._opened()
                database.execute("BEGIN IMMEDIATE")
                try:
                    found = work(database)
                    database.execute("COMMIT")
                except BaseException:
                    database.execute("ROLLBACK")
                    raise
                return found
            except (sqlite3.Error, OSError) as error:
                self._dropped()  # the file may be another by now
                raise SinkError(f"{self.place}: {error}") from None

    def _opened(self) -> sqlite3.Connection:
        if self._database is not None and self._inode() != self._own:
            self._dropped()
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            database = sqlite3.connect(
                self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False
            )
            self._database = database
            _write_ahead(database)
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(_TABLES)
            self._own = self._inode()
        return self._database

    def _inode(self) -> int | None:
        try:
            return self._path.stat().st_ino
        except FileNotFoundError:
            return None

    def _dropped(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _write_ahead(database: sqlite3.Connection) -> None:
    """Who makes the file beside somebody else is told at once that it is locked, whatever the patience."""
    end = time.monotonic() + _BUSY
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(0.01)


def _take(bucket: str, pace: Pace, database: sqlite3.Connection) -> float:
    row = database.execute("SELECT full_at FROM buckets WHERE id = ?", (bucket,)).fetchone()
    full_at, wait = taken(row and row[0], time.time_ns() // 1000, pace)
    if not wait:
        database.execute("INSERT OR REPLACE INTO buckets (id, full_at) VALUES (?, ?)", (bucket, full_at))
    return wait / MICRO


def _announce(
    fleet: str, worker: str, version: str, seconds: float, database: sqlite3.Connection
) -> dict[str, str]:
    now = time.time()
    database.execute(
        "INSERT OR REPLACE INTO workers (fleet, worker, version, until) VALUES (?, ?, ?, ?)",
        (fleet, worker, version, now + seconds),
    )
    database.execute("DELETE FROM workers WHERE until <= ?", (now,))
    return dict(database.execute("SELECT worker, version FROM workers WHERE fleet = ?", (fleet,)).fetchall())
