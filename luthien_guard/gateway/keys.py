"""The gateway's own keys: `lg_<id>_<secret>`, of which only an HMAC is kept.

They live in one small SQLite file that every worker reads and `luthien-guard keys` writes. A worker looks at the file's
stamp with each request, so a new or revoked key counts at once and costs a few microseconds.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from luthien_guard.callers import pepper_of
from luthien_guard.errors import ConfigError

__all__ = ["Key", "KeyFile", "looks_like_key", "parse_key"]

_SHAPE: Final = re.compile(r"lg_([0-9a-f]{12})_([0-9a-f]{64})")
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, mac BLOB NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL, created_at REAL NOT NULL,
    expires_at REAL, revoked_at REAL, settings TEXT NOT NULL
) STRICT"""
_COLUMNS: Final = "id, mac, name, scopes, created_at, expires_at, revoked_at, settings"


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is kept. Times are Unix seconds. `scopes`: what it may be used for (`*` is everything);
    `settings`: further facts for who asks with it (`requests_per_minute`, names of policies, labels)."""

    id: str
    mac: bytes
    name: str
    scopes: frozenset[str]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    settings: Mapping[str, Any]

    def state(self, now: float) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class KeyFile:
    """Reads and writes keys. Each call opens the file anew: nothing is held between processes. Raises ConfigError."""

    def __init__(self, path: Path, pepper: bytes | None = None) -> None:
        self.path = path
        self._pepper = pepper

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
        """A new key and its text, which nobody can get a second time. `seconds`: how long it is valid."""
        id, secret = secrets.token_hex(6), secrets.token_hex(32)
        text = f"lg_{id}_{secret}"
        now = time.time()
        expires = None if seconds is None else now + seconds
        key = Key(id, self.mac(text), name, frozenset(scopes), now, expires, None, dict(settings or {}))
        with self._writing() as database:
            database.execute(f"INSERT INTO keys ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)", _row(key))  # noqa: S608
        return key, text

    def revoke(self, id: str) -> bool:
        """True when there was such a key and it was not revoked before."""
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
        return [_key(row) for row in rows]

    def mac(self, text: str) -> bytes:
        """What is kept of a key's text."""
        return hmac.digest(self._secret(), text.encode(), "sha256")

    # ------------------------------------------------------------------------------------------------------------------

    def _secret(self) -> bytes:
        if self._pepper is None:
            pepper = pepper_of(self.path.parent)
            if len(pepper) < 32:
                raise ConfigError(
                    f"{self.path.parent / 'pepper'}: 32 bytes are expected; an empty pepper is none"
                )
            self._pepper = pepper
        return self._pepper

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
        return sqlite3.connect(self.path, timeout=5.0, isolation_level=None)


def parse_key(text: str) -> str | None:
    """The id in a key's text; None when this is no key of ours."""
    found = _SHAPE.fullmatch(text)
    return found[1] if found else None


def looks_like_key(text: str) -> bool:
    """A key of ours, or what is left of one: it must not travel on to a provider."""
    return text.startswith("lg_")


def _row(key: Key) -> tuple[Any, ...]:
    scopes, settings = json.dumps(sorted(key.scopes)), json.dumps(dict(key.settings))
    return key.id, key.mac, key.name, scopes, key.created_at, key.expires_at, key.revoked_at, settings


def _key(row: tuple[Any, ...]) -> Key:
    id, mac, name, scopes, created_at, expires_at, revoked_at, settings = row
    return Key(
        id, mac, name, frozenset(json.loads(scopes)), created_at, expires_at, revoked_at, json.loads(settings)
    )
