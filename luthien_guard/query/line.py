"""The line of a call in `conversation_calls`: what it says, and what its rows make of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.store import CALL_COLUMNS, Call, Row, projected

__all__ = ["NONSENSE", "add_to_line", "digest", "line_of", "other_column", "said_by"]

#: What reading rows may raise that were never written by a guard.
NONSENSE: Final = (ValueError, TypeError, AttributeError, RecursionError)
#: The end of a call says these again, and knows better; of the others the first stands.
_LATEST: Final = frozenset({"ended_at", "outcome", "blocked_by", "usage", "model"})


def add_to_line(line: dict[str, Any], row: Row) -> None:
    """What the next row of the call adds. Raises one of NONSENSE."""
    for column, value in projected([row]).get(row.call_id, {}).items():
        if value is not None and (column in _LATEST or line.get(column) is None):
            line[column] = value


def said_by(rows: Sequence[Row]) -> dict[str, Any]:
    """The line as the rows make it. Raises one of NONSENSE."""
    found: dict[str, Any] = {}
    for row in rows:
        add_to_line(found, row)
    return found


def line_of(call: Call) -> dict[str, Any]:
    """The line as it stands there."""
    columns = {name: getattr(call, name) for name in CALL_COLUMNS[1:]}
    return {name: value for name, value in columns.items() if value is not None}


def other_column(line: Mapping[str, Any], said: Mapping[str, Any]) -> str | None:
    """The first column in which they differ."""
    return next((name for name in CALL_COLUMNS[1:] if line.get(name) != said.get(name)), None)


def digest(line: Mapping[str, Any]) -> bytes:
    """Lines of the same digest say the same: for millions of them there is no room."""
    text = json.dumps(line, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
