"""A store without a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from luthien_guard.errors import ConfigError
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.store import Row, Written

__all__ = ["MemoryStore", "from_url"]


def from_url(url: str) -> MemoryStore:
    """`memory://`: a whole store that ends with the process."""
    if url != "memory://":
        raise ConfigError(f"{url!r}: memory:// has no path")
    return MemoryStore()


class MemoryStore(SqliteStore):
    """Implements `Store` without a file, of about `max_bytes`; the oldest calls go first, and are counted as evicted."""

    def __init__(self, *, max_bytes: int = 256 * 1024 * 1024) -> None:
        super().__init__(None)
        self._max = max_bytes

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        written = super().write(rows, durable=durable)
        if self._bytes() <= self._max:
            return written
        before = self._events()
        self.prune(max_bytes=self._max * 9 // 10)  # a tenth at once, not a little every time
        return replace(written, evicted=before - self._events())

    def _events(self) -> int:
        return int(self._fetch("SELECT count(*) FROM conversation_events")[0][0])
