"""The records of the latest exchanges, in this process: for tests, for the demo, for a quick look."""

from __future__ import annotations

from collections import OrderedDict

from luthien_guard.records import Record

__all__ = ["MemorySink"]


class MemorySink:
    """Keeps the last `size` exchanges whole; the oldest goes first."""

    def __init__(self, size: int = 1000) -> None:
        self._size = size
        self._calls: OrderedDict[str, list[Record]] = OrderedDict()

    def put(self, record: Record) -> None:
        self._calls.setdefault(record.call_id, []).append(record)
        while len(self._calls) > self._size:
            self._calls.popitem(last=False)

    def records(self, call_id: str) -> tuple[Record, ...]:
        return tuple(self._calls.get(call_id, ()))

    def calls(self) -> tuple[str, ...]:
        """Call ids, oldest first."""
        return tuple(self._calls)
