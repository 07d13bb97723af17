"""The records of the latest exchanges, in this process: for tests, for the demo, for a quick look."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from luthien_guard.errors import ConfigError
from luthien_guard.records import Record, weight
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.store import Row, Written

__all__ = ["MemorySink", "MemoryStore", "from_url"]


def from_url(url: str) -> MemoryStore:
    """`memory://`: a whole store that ends with the process."""
    if url != "memory://":
        raise ConfigError(f"{url!r}: memory:// has no path")
    return MemoryStore()


class MemoryStore(SqliteStore):
    """Implements `Store` without a file, of about `max_bytes`; the oldest calls go first."""

    def __init__(self, *, max_bytes: int = 256 * 1024 * 1024) -> None:
        super().__init__(None)
        self._max = max_bytes

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        written = super().write(rows, durable=durable)
        if self._bytes() > self._max:
            self.prune(max_bytes=self._max * 9 // 10)  # a tenth at once, not a little every time
        return written


class MemorySink:
    """Keeps the last `size` exchanges whole, of about `max_bytes` of strings; the oldest goes first."""

    def __init__(self, size: int = 1000, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._size = size
        self._max = max_bytes
        self._calls: OrderedDict[str, list[Record]] = OrderedDict()
        self._bytes: dict[str, int] = {}
        self._total = 0
        self._lock = threading.Lock()  # an application may have several event loops

    def put(self, record: Record) -> None:
        call_id, size = record.call_id, weight(record.details)
        with self._lock:
            self._calls.setdefault(call_id, []).append(record)
            self._bytes[call_id] = self._bytes.get(call_id, 0) + size
            self._total += size
            while len(self._calls) > self._size or (self._total > self._max and len(self._calls) > 1):
                oldest, _ = self._calls.popitem(last=False)
                self._total -= self._bytes.pop(oldest)

    def records(self, call_id: str) -> tuple[Record, ...]:
        with self._lock:
            return tuple(self._calls.get(call_id, ()))

    def calls(self) -> tuple[str, ...]:
        """Call ids, oldest first."""
        with self._lock:
            return tuple(self._calls)
