"""Rows as lines of a file, and lines as rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

from luthien_guard.store import EVENT_COLUMNS, Row
from luthien_guard.unique_keys import unique_keys

__all__ = ["Line", "line_of", "lines", "lines_in", "row_of"]

#: (where it begins, where it ends, the row or None for a line that is none)
Line = tuple[int, int, Row | None]

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(EVENT_COLUMNS, (str,)),
    "seq": (int,),
    "at": (float, int),
    "policy": (str, type(None)),
}

_FAR: Final = 1e12  # seconds; JSON has numbers that no clock can show


def line_of(row: Row) -> bytes:
    return json.dumps(asdict(row), separators=(",", ":")).encode() + b"\n"


def row_of(line: bytes) -> Row | None:
    """None for what no store has written, and for what readers of JSON could take for several things: encodings that are
    not UTF-8, a byte-order mark, a key that is there twice."""
    try:
        found: Any = _decoded(line.decode())
    except (ValueError, RecursionError):
        return None
    if type(found) is not dict or found.keys() != _TYPES.keys():
        return None
    if not all(type(found[name]) in types for name, types in _TYPES.items()):
        return None
    return Row(**found) if -_FAR < found["at"] < _FAR else None


#: `json.loads` with a hook makes a decoder anew for every line.
_decoded: Final = json.JSONDecoder(object_pairs_hook=unique_keys).decode


def lines(path: Path, position: int = 0) -> Iterator[Line]:
    """Every whole line from `position` on; the last one may still be in the making. Raises OSError."""
    with path.open("rb") as file:
        yield from lines_in(file, position)


def lines_in(file: BinaryIO, position: int) -> Iterator[Line]:
    """The same of an open file."""
    file.seek(position)
    for line in file:
        if not line.endswith(b"\n"):
            return
        begin, position = position, position + len(line)
        yield begin, position, row_of(line)
