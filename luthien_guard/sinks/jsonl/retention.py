"""What goes when there is too much: which calls, a file without them, and what is remembered of them beside it."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

from luthien_guard.sinks.jsonl import files
from luthien_guard.sinks.jsonl.index import Index
from luthien_guard.sinks.jsonl.lines import lines

__all__ = ["chosen", "copy", "remember", "remembered"]


def chosen(index: Index, before: float | None, max_bytes: int | None, end: int) -> set[str]:
    """The ids of the calls that go, oldest first: only those that stand before `end` as a whole, and for their size
    never the newest of all."""
    total = sum(entry.bytes for entry in index.entries.values())
    gone: set[str] = set()
    for call_id in index.ids:
        entry = index.entries[call_id]
        old = before is not None and entry.began < before
        big = max_bytes is not None and total > max_bytes and call_id != index.ids[-1]
        if (old or big) and entry.places[-1] < end:
            gone.add(call_id)
            total -= entry.bytes
    return gone


def copy(path: Path, renewed: FileIO, gone: set[str]) -> None:
    """All but the calls that are gone, onto the disk."""
    with path.open("rb") as old, os.fdopen(os.dup(renewed.fileno()), "wb") as file:
        kept = False
        for begin, end, row in lines(path):
            if (row is None and kept) or (row is not None and row.call_id not in gone):
                kept = True
                old.seek(begin)
                file.write(old.read(end - begin))
        file.flush()
        os.fsync(file.fileno())


def remember(beside: Path, call_id: str) -> None:
    """The id of the youngest call that went. What stood there before stays until it is replaced."""
    fresh = beside.with_name(beside.name + ".new")
    with files.private(fresh) as file:
        files.append(file, [call_id.encode()], durable=True)
    fresh.replace(beside)


def remembered(beside: Path) -> str:
    try:
        return beside.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
