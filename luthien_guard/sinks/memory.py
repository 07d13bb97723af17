"""The records of the latest exchanges, in this process: for tests, for the demo, for a quick look."""

from __future__ import annotations

from collections import OrderedDict

from luthien_guard.errors import ConfigError
from luthien_guard.records import Record
from luthien_guard.sinks.sqlite import SqliteStore

__all__ = ["MemorySink", "from_url"]


def from_url(url: str) -> SqliteStore:
    """`memory://`: a whole store that ends with the process."""
    if url != "memory://":
        raise ConfigError(f"{url!r}: memory:// has no path")
    return SqliteStore(None)


class MemorySink:
    """Keeps the last `size` exchanges whole, of about `max_bytes` of strings; the oldest goes first."""

    def __init__(self, size: int = 1000, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._size = size
        self._max = max_bytes
        self._calls: OrderedDict[str, list[Record]] = OrderedDict()
        self._bytes: dict[str, int] = {}
        self._total = 0

    def put(self, record: Record) -> None:
        call_id = record.call_id
        self._calls.setdefault(call_id, []).append(record)
        size = sum(len(value) for value in record.details.values() if isinstance(value, str)) + 256
        self._bytes[call_id] = self._bytes.get(call_id, 0) + size
        self._total += size
        while len(self._calls) > self._size or (self._total > self._max and len(self._calls) > 1):
            oldest, _ = self._calls.popitem(last=False)
            self._total -= self._bytes.pop(oldest)

    def records(self, call_id: str) -> tuple[Record, ...]:
        return tuple(self._calls.get(call_id, ()))

    def calls(self) -> tuple[str, ...]:
        """Call ids, oldest first."""
        return tuple(self._calls)
