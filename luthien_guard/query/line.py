"""The line of a call in `conversation_calls`: what it says, and what its rows make of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from luthien_guard.store import CALL_COLUMNS, Call, Row, merge

__all__ = ["digest", "line_of", "other_column", "said_by"]


def said_by(rows: Sequence[Row]) -> dict[str, Any]:
    """The line as the rows make it. Raises one of NONSENSE."""
    found: dict[str, Any] = {}
    for row in rows:
        merge(found, row)
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
