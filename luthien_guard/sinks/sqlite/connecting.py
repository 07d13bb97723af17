"""A connection to a file whose schema is up to date, also where many processes open it at once."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from luthien_guard.sinks.migrations import pending
from luthien_guard.sinks.sqlite import statements
from luthien_guard.sinks.sqlite.transactions import transaction

__all__ = ["File", "connected", "named"]

#: Which file it is, whatever its name: device and inode.
File = tuple[int, int]

_AGAIN: Final = 0.02  # seconds


def connected(path: Path | None, patience: float) -> tuple[sqlite3.Connection, File | None]:
    """The connection, and the file that it is to.

    Going over to WAL and recovering a log need the file alone, and some of these steps ignore the busy handler:
    processes that open one file at once have to try again."""
    end = time.monotonic() + patience
    while True:
        try:
            return _connected(path, patience)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
        time.sleep(_AGAIN)


def named(path: Path | None) -> File | None:
    """The file that has the name now."""
    try:
        found = None if path is None else path.stat()
    except FileNotFoundError:
        return None
    return found and (found.st_dev, found.st_ino)


def _connected(path: Path | None, patience: float) -> tuple[sqlite3.Connection, File | None]:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # a file that may only be read can still be asked
            path.touch(mode=0o600)
    # absolute: a relative `:memory:` would be no file
    where = ":memory:" if path is None else path.absolute().as_uri()
    still = path is not None and _on_read_only_disk(path)
    if still:  # a log in memory that others share is a file, too
        where += "?immutable=1"
    db = sqlite3.connect(where, timeout=patience, isolation_level=None, check_same_thread=False, uri=True)
    try:
        if not still:
            _begin_log(db)
        db.create_function("contains", 2, statements.contains, deterministic=True)
        _migrate(db, f"sqlite {path}")
        return db, named(path)
    except BaseException:  # what was refused must not stay open
        db.close()
        raise


def _begin_log(db: sqlite3.Connection) -> None:
    if not _version(db):  # it has an effect on a new file only, and takes the write lock of any
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
    db.execute("PRAGMA journal_mode=WAL")


def _on_read_only_disk(path: Path) -> bool:
    """Nobody writes there, so that nobody has to be waited for; a log that was left there could not be read."""
    flags = os.statvfs(path).f_flag if hasattr(os, "statvfs") and path.exists() else 0
    return bool(flags & getattr(os, "ST_RDONLY", 0)) and not path.with_name(f"{path.name}-wal").exists()


def _migrate(db: sqlite3.Connection, what: str) -> None:
    # looked at first without the lock: whoever only asks waits for no writer
    if _version(db) and not _pending(db, what):
        return
    with transaction(db):
        db.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, applied_at REAL)"
        )
        for number, sql in _pending(db, what):
            for statement in filter(str.strip, sql.split(";")):
                db.execute(statement)
            db.execute("INSERT INTO schema_migrations VALUES (?, unixepoch('subsec'))", (number,))


def _pending(db: sqlite3.Connection, what: str) -> list[tuple[int, str]]:
    return pending("luthien_guard.sinks.sqlite", _version(db), what)


def _version(db: sqlite3.Connection) -> int:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'").fetchone():
        return 0
    return int(db.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchone()[0])
