"""The SQL of the embedded store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.sinks.sqlite.batches import Insert
from luthien_guard.store import CALL_COLUMNS, EVENT_COLUMNS, LATEST, CallFilter, id_at, plain, spellings

__all__ = [
    "ANY_PRUNED",
    "GONE",
    "HAS_LINE",
    "INSERT_EVENT",
    "LAST",
    "LAST_PRUNED",
    "SELECT_CALLS",
    "SELECT_EVENTS",
    "STATS",
    "TAIL",
    "UPSERT_CALL",
    "conditions",
    "contains",
    "upserts",
]

_EVENTS: Final = ", ".join(EVENT_COLUMNS)
_CALLS: Final = ", ".join(CALL_COLUMNS)

INSERT_EVENT: Final = Insert("conversation_events", EVENT_COLUMNS, "ON CONFLICT DO NOTHING")


def _set(name: str) -> str:
    if name == "model":  # who knows the end knows which one it was, also when the beginning comes again
        return "model = CASE WHEN excluded.ended_at IS NULL THEN coalesce(model, excluded.model) ELSE coalesce(excluded.model, model) END"
    if name in LATEST:
        return f"{name} = coalesce(excluded.{name}, {name})"
    return f"{name} = coalesce({name}, excluded.{name})"


_SET: Final = ", ".join(map(_set, CALL_COLUMNS[1:]))
UPSERT_CALL: Final = Insert("conversation_calls", CALL_COLUMNS, f"ON CONFLICT (call_id) DO UPDATE SET {_SET}")
#: Of these calls retention has taken the rows, or the whole.
GONE: Final = (
    "SELECT value FROM json_each(?) WHERE value <= (SELECT max(call_id) FROM conversation_pruned) "
    "AND NOT EXISTS (SELECT 1 FROM conversation_events e WHERE e.call_id = value)"
)
ANY_PRUNED: Final = "SELECT 1 FROM conversation_pruned"
LAST_PRUNED: Final = "SELECT max(call_id) FROM conversation_pruned WHERE typeof(call_id) = 'text'"
HAS_LINE: Final = "SELECT 1 FROM conversation_calls WHERE call_id = ?"
SELECT_CALLS: Final = f"SELECT {_CALLS} FROM conversation_calls"
SELECT_EVENTS: Final = f"SELECT {_EVENTS} FROM conversation_events"
TAIL: Final = (
    f"SELECT position, {_EVENTS} FROM conversation_events WHERE position >= ? ORDER BY position LIMIT ?"
)
LAST: Final = "SELECT coalesce(max(position), 0) FROM conversation_events"
STATS: Final = (
    "SELECT (SELECT count(*) FROM conversation_calls), (SELECT count(*) FROM conversation_events), "
    "(SELECT min(started_at) FROM conversation_calls), (SELECT max(started_at) FROM conversation_calls), "
    "(SELECT max(version) FROM schema_migrations)"
)
_EXISTS: Final = (
    "EXISTS (SELECT 1 FROM conversation_events e WHERE e.call_id = conversation_calls.call_id AND {})"
)
#: Of a call whose beginning nobody has, the id says when it was.
_CONDITIONS: Final[Mapping[str, str]] = {
    "since": "(started_at >= ? OR started_at IS NULL AND call_id >= ?)",
    "until": "(started_at < ? OR started_at IS NULL AND call_id < ?)",
    "model": "model = ?",
    "endpoint": "endpoint = ?",
    "outcome": "outcome = ?",
    "session_id": "session_id = ?",
    "named": "(substr(call_id, 1, length(?)) = ? OR substr(call_id, -length(?)) = ?)",
    "before": "call_id < ?",
    "policy": _EXISTS.format("e.policy = ?"),
}
_LIKE: Final = r"e.payload LIKE ? ESCAPE '\'"
#: The driver makes text of an argument, or fails where it is none.
_CONTAINS: Final = _EXISTS.format("contains(CAST(e.payload AS BLOB), ?)")


def conditions(wanted: CallFilter) -> tuple[str, tuple[Any, ...]]:
    """The WHERE clause of a filter, and its values."""
    given: list[tuple[str, tuple[Any, ...]]] = []
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if name in ("since", "until") and value is not None:
            given.append((condition, (value, id_at(value))))
        elif value is not None:
            stored = plain(value) if isinstance(value, str) else value
            given.append((condition, (stored,) * condition.count("?")))
    if wanted.text is not None:
        given.append(_saying(spellings(wanted.text)))
    where = " AND ".join(condition for condition, _ in given)
    return (f"WHERE {where}" if where else ""), tuple(value for _, values in given for value in values)


def _saying(texts: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The condition that a payload holds one of the texts. No index helps to find a part of a word, and no tokenizer knows
    what people look for in code and arguments."""
    # LIKE knows the case of ASCII only, and patterns up to 50,000 bytes
    if all(text.isascii() and len(text) < 1000 for text in texts):
        return _EXISTS.format(f"({' OR '.join([_LIKE] * len(texts))})"), tuple(map(_pattern, texts))
    return _CONTAINS, ("\0".join(texts).lower(),)


def _pattern(text: str) -> str:
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"


def contains(payload: bytes, texts: str) -> bool:
    """The SQL function: one of `texts`, which are in lower case and have a NUL between them."""
    text = payload.decode(errors="replace").lower()
    return any(each in text for each in texts.split("\0"))


def upserts(calls: Mapping[str, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Values for UPSERT_CALL."""
    lines = []
    for call_id, columns in calls.items():
        usage = columns.get("usage")
        stored = columns if usage is None else {**columns, "usage": json.dumps(usage)}
        lines.append((call_id, *map(stored.get, CALL_COLUMNS[1:])))
    return lines
