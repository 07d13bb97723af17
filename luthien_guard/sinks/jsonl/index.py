"""Where the rows of each call stand in the file, and what they make of its line: read once, then only what is new."""

from __future__ import annotations

import os
from array import array
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from luthien_guard.sinks.jsonl.lines import lines, row_of
from luthien_guard.sinks.sqlite.values import call_of
from luthien_guard.store import CALL_COLUMNS, NONSENSE, Call, Row, merge

__all__ = ["Entry", "Index"]

_NONE: Final = dict.fromkeys(CALL_COLUMNS)


@dataclass(slots=True)
class Entry:
    """One call. `places`: where its lines begin; `first`: when the first of them was made (Unix seconds)."""

    first: float
    places: array[int] = field(default_factory=lambda: array("Q"))
    bytes: int = 0
    line: dict[str, Any] = field(default_factory=dict[str, Any])
    policies: set[str | None] = field(default_factory=set[str | None])

    @property
    def began(self) -> float:
        """By its beginning, or by what there is of it (Unix seconds)."""
        started: float | None = self.line.get("started_at")
        return self.first if started is None else started


class Index:
    """What is known of the file at `path`, as far as it was whole lines when somebody asked last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None  # device and number of what was read
        self._changed = 0  # when it was written last, in nanoseconds
        self._forget()

    def _forget(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.ids: list[str] = []  # sorted: by time
        self.rows = 0
        self.end = 0  # of what was read
        self.damaged: list[tuple[int, int]] = []  # (number of the line from 1, where it begins)
        self._lines = 0

    def refresh(self) -> Index:
        """Read what is new; everything, where it is another file. Raises OSError."""
        found = self._path.stat()
        rewritten = found.st_size < self.end or (
            found.st_size == self.end and found.st_mtime_ns != self._changed
        )
        if self._file != (found.st_dev, found.st_ino) or rewritten:
            self._forget()
            self._file = found.st_dev, found.st_ino
        self._changed = found.st_mtime_ns
        if found.st_size > self.end:
            for begin, end, row in lines(self._path, self.end):
                self._lines += 1
                self.end = end
                self._add(begin, end, row)
        return self

    def _add(self, begin: int, end: int, row: Row | None) -> None:
        if row is None:
            self.damaged.append((self._lines, begin))
            return
        self.rows += 1
        entry = self.entries.get(row.call_id)
        if entry is None:
            entry = self.entries[row.call_id] = Entry(row.at)
            insort(self.ids, row.call_id)  # nearly always at the end
        entry.places.append(begin)
        entry.bytes += end - begin
        entry.policies.add(row.policy)
        try:
            merge(entry.line, row)
        except NONSENSE:  # somebody put it there; an audit says so
            pass

    def call(self, call_id: str) -> Call | None:
        entry = self.entries.get(call_id)
        return None if entry is None else call_of({**_NONE, "call_id": call_id, **entry.line})

    def rows_of(self, call_id: str) -> Iterator[Row]:
        """In the order of the file, as they stand there now. Raises OSError."""
        entry = self.entries.get(call_id)
        if entry is None:
            return
        with self._path.open("rb") as file:
            for place in entry.places:
                file.seek(place, os.SEEK_SET)
                row = row_of(file.readline())
                if row is not None and row.call_id == call_id:
                    yield row
