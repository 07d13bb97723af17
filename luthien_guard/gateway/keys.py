"""The gateway's own keys on one machine.

They live in one small SQLite file that every worker reads and `luthien-guard keys` writes. A worker looks
at the file's stamp with each request, so a new or revoked key counts at once and costs a few microseconds.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from luthien_guard.errors import ConfigError
from luthien_guard.gateway.key import Key, KeyReader, key_of, new_key, row_of
from luthien_guard.gateway.pepper import Pepper

__all__ = ["KeyFile"]

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, mac BLOB NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL, created_at REAL NOT NULL,
    expires_at REAL, revoked_at REAL, settings TEXT NOT NULL
) STRICT"""
_COLUMNS: Final = "id, mac, name, scopes, created_at, expires_at, revoked_at, settings"


class KeyFile:
    """Implements `Keys`. Each call opens the file anew: nothing is held between processes. Raises ConfigError."""

    def __init__(self, path: Path, pepper: bytes | None = None) -> None:
        self.path = path
        self.place = str(path)
        self._pepper = Pepper(path.parent, pepper)
        self._reader = KeyReader(self.place)
        self._stamp: object = ()
        self._keys: Mapping[str, Key] = {}

    @property
    def stamp(self) -> tuple[int, ...] | None:
        """Differs after every change; None while there is no file. Clocks of file systems tick in milliseconds: two
        changes within one would look like one, so SQLite's own count of changes belongs to it."""
        try:
            file = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            found, head = os.fstat(file), os.read(file, 28)
        finally:
            os.close(file)
        return found.st_mtime_ns, found.st_size, found.st_ino, int.from_bytes(head[24:28], "big")

    def create(
        self,
        name: str = "",
        *,
        scopes: Iterable[str] = ("*",),
        seconds: float | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> tuple[Key, str]:
        key, text = new_key(self.mac, name, scopes=scopes, seconds=seconds, settings=settings)
        with self._writing() as database:
            database.execute(f"INSERT INTO keys ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)", row_of(key))  # noqa: S608
        return key, text

    def revoke(self, id: str) -> bool:
        with self._writing() as database:
            change = "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
            return database.execute(change, (time.time(), id)).rowcount == 1

    def all(self) -> list[Key]:
        """Oldest first; empty while there is no file."""
        if self.stamp is None:
            return []
        try:
            with closing(self._connection()) as database:
                rows = database.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at, id").fetchall()  # noqa: S608
        except sqlite3.Error as error:
            raise ConfigError(f"{self.path}: {error}") from None
        return self._reader.keys(rows, key_of)

    def mac(self, text: str) -> bytes:
        return self._pepper.mac(text)

    async def find(self, id: str) -> Key | None:
        """Reads the file when it has changed."""
        try:
            stamp = self.stamp
            if stamp != self._stamp:
                self._keys = {key.id: key for key in self.all()}
                self._stamp = stamp
        except OSError as error:
            raise ConfigError(f"{self.path}: {error}") from None
        return self._keys.get(id)

    def close(self) -> None:
        pass

    # ------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            with closing(self._connection()) as database, database:
                database.execute("BEGIN IMMEDIATE")
                database.execute(_TABLE)
                yield database
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{self.path}: {error}") from None

    def _connection(self) -> sqlite3.Connection:
        # a rollback journal, not WAL: every change shows in the file's own stamp
        database = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        # One text that is not in UTF-8 would make all rows unreadable: `key_of` finds the one.
        database.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        return database
