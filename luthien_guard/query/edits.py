"""The differences between two JSON documents, as edits that turn the one into the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from luthien_guard.query.alignment import Work, aligned

__all__ = ["MISSING", "Edit", "Path", "edits"]

Path = tuple[str | int, ...]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()  # no value at all: null is one


@dataclass(frozen=True, slots=True)
class Edit:
    """One difference. `path` leads to the value: keys, and numbers of items. What was taken out (`after` is MISSING) or
    changed has its number in the old list, what was put in (`before` is MISSING) its number in the new one. So: change
    and take out by the old numbers, then put in by the new ones, in this order, and the new document is there."""

    path: Path
    before: Any
    after: Any


def edits(before: Any, after: Any, path: Path = (), work: Work | None = None) -> Iterator[Edit]:
    """Down to the smallest values that differ, in the order of the documents. `work`: for all of their lists."""
    work = Work() if work is None else work
    if _canonical(before) == _canonical(after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from edits(before.get(key, MISSING), after.get(key, MISSING), (*path, key), work)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _items(before, after, path, work)
    else:
        yield Edit(path, before, after)


def _items(before: list[Any], after: list[Any], path: Path, work: Work) -> Iterator[Edit]:
    """Items that took each other's place are compared; the others were put in or taken out."""
    old, new = [*map(_canonical, before)], [*map(_canonical, after)]
    for left, right in aligned(old, new, work):
        if old[left] == new[right]:
            continue
        pairs = min(left.stop - left.start, right.stop - right.start)
        for at in range(pairs):
            first, second = left.start + at, right.start + at
            yield from edits(before[first], after[second], (*path, first), work)
        for at in range(left.start + pairs, left.stop):
            yield Edit((*path, at), before[at], MISSING)
        for at in range(right.start + pairs, right.stop):
            yield Edit((*path, at), MISSING, after[at])


def _canonical(value: Any) -> str:
    """Equal exactly for the same JSON: True is not 1, 1 is not 1.0, a missing value is not null."""
    return "" if value is MISSING else json.dumps(value, sort_keys=True)
