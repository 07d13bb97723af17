"""`sqlite:///path`: the embedded store. One file, WAL, batches; several processes may share it."""

from __future__ import annotations

from luthien_guard.sinks.sqlite.store import SqliteStore
from luthien_guard.sinks.urls import file_of

__all__ = ["SqliteStore", "from_url"]


def from_url(url: str) -> SqliteStore:
    """`sqlite:///relative.db`, `sqlite:////absolute.db`. Raises ConfigError."""
    return SqliteStore(file_of(url, "sqlite", "db"))
