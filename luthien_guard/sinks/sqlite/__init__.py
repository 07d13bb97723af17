"""`sqlite:///path`: the embedded store. One file, WAL, batches; several processes may share it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from luthien_guard.errors import ConfigError
from luthien_guard.sinks.sqlite.store import SqliteStore

__all__ = ["SqliteStore", "from_url"]


def from_url(url: str) -> SqliteStore:
    """`sqlite:///relative.db`, `sqlite:////absolute.db`. Raises ConfigError."""
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if parts.netloc or not path or parts.query or parts.fragment:
        raise ConfigError(f"{url!r}: sqlite:///relative.db or sqlite:////absolute/path.db is expected")
    return SqliteStore(Path(path))
