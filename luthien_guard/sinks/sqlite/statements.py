"""The SQL of the embedded store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.sinks.sqlite.batches import Insert
from luthien_guard.store import CALL_COLUMNS, EVENT_COLUMNS, Call, CallFilter, payload_of, plain, usage_of

__all__ = [
    "GONE",
    "HAS_LINE",
    "INSERT_EVENT",
    "LAST_PRUNED",
    "PRUNED",
    "SELECT_CALLS",
    "SELECT_EVENTS",
    "SIZE",
    "STATS",
    "TAIL",
    "UPSERT_CALL",
    "call_of",
    "conditions",
    "contains",
    "upserts",
]

_EVENTS: Final = ", ".join(EVENT_COLUMNS)
_CALLS: Final = ", ".join(CALL_COLUMNS)
#: The end of a call says these again, and knows better.
_LATEST: Final = frozenset({"ended_at", "outcome", "blocked_by", "usage"})

INSERT_EVENT: Final = Insert("conversation_events", EVENT_COLUMNS, "ON CONFLICT DO NOTHING")


def _set(name: str) -> str:
    if name == "model":  # who knows the end knows which one it was, also when the beginning comes again
        return "model = CASE WHEN excluded.ended_at IS NULL THEN coalesce(model, excluded.model) ELSE coalesce(excluded.model, model) END"
    if name in _LATEST:
        return f"{name} = coalesce(excluded.{name}, {name})"
    return f"{name} = coalesce({name}, excluded.{name})"


_SET: Final = ", ".join(map(_set, CALL_COLUMNS[1:]))
UPSERT_CALL: Final = Insert("conversation_calls", CALL_COLUMNS, f"ON CONFLICT (call_id) DO UPDATE SET {_SET}")
#: Of these calls, whose ids are not too young for it, retention has taken the rows, or the whole.
GONE: Final = "SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM conversation_events e WHERE e.call_id = value)"
LAST_PRUNED: Final = "SELECT max(call_id) FROM conversation_pruned"
HAS_LINE: Final = "SELECT 1 FROM conversation_calls WHERE call_id = ?"
PRUNED: Final = (
    "INSERT INTO conversation_pruned SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM conversation_pruned WHERE call_id >= ?1)",
    "DELETE FROM conversation_pruned WHERE call_id < ?1",
)
SELECT_CALLS: Final = f"SELECT {_CALLS} FROM conversation_calls"
SELECT_EVENTS: Final = f"SELECT {_EVENTS} FROM conversation_events"
TAIL: Final = (
    f"SELECT position, {_EVENTS} FROM conversation_events WHERE position > ? ORDER BY position LIMIT ?"
)
#: What a call takes up, about: 300 bytes a row for the hashes, the keys and their indexes.
SIZE: Final = "SELECT coalesce(sum(length(CAST(payload AS BLOB)) + 300), 300) FROM conversation_events WHERE call_id = ?"
STATS: Final = (
    "SELECT (SELECT count(*) FROM conversation_calls), (SELECT count(*) FROM conversation_events), "
    "(SELECT min(started_at) FROM conversation_calls), (SELECT max(started_at) FROM conversation_calls), "
    "(SELECT max(version) FROM schema_migrations)"
)
_EXISTS: Final = (
    "EXISTS (SELECT 1 FROM conversation_events e WHERE e.call_id = conversation_calls.call_id AND {})"
)
_CONDITIONS: Final[Mapping[str, str]] = {
    "since": "started_at >= ?",
    "until": "started_at < ?",
    "model": "model = ?",
    "endpoint": "endpoint = ?",
    "outcome": "outcome = ?",
    "session_id": "session_id = ?",
    "before": "call_id < ?",
    "policy": _EXISTS.format("e.policy = ?"),
    "text": _EXISTS.format(r"e.payload LIKE ? ESCAPE '\'"),
    "any_text": _EXISTS.format("contains(e.payload, ?)"),
}


def conditions(wanted: CallFilter) -> tuple[str, tuple[Any, ...]]:
    """The WHERE clause of a filter, and its values."""
    given = {name: getattr(wanted, name, None) for name in _CONDITIONS}
    given = {
        name: plain(value) if isinstance(value, str) else value
        for name, value in given.items()
        if value is not None
    }
    if wanted.text is not None:
        del given["text"]
        # LIKE knows the case of ASCII only, and patterns up to 50,000 bytes
        easy = wanted.text.isascii() and len(wanted.text) < 1000
        given |= {"text": _pattern(wanted.text)} if easy else {"any_text": _in_json(wanted.text).lower()}
    where = " AND ".join(_CONDITIONS[name] for name in given)
    return (f"WHERE {where}" if where else ""), tuple(given.values())


def _pattern(text: str) -> str:
    """A LIKE pattern for the text as it stands in JSON: no index helps to find a part of a word, and no tokenizer knows
    what people look for in code and arguments."""
    escaped = _in_json(text)
    for special in ("\\", "%", "_"):
        escaped = escaped.replace(special, f"\\{special}")
    return f"%{escaped}%"


def _in_json(text: str) -> str:
    return payload_of({"": text})[5:-2]


def contains(payload: str, text: str) -> bool:
    """The SQL function: `text` is in lower case."""
    return text in payload.lower()


def upserts(calls: Mapping[str, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Values for UPSERT_CALL."""
    lines = []
    for call_id, columns in calls.items():
        usage = columns.get("usage")
        stored = columns if usage is None else {**columns, "usage": json.dumps(usage)}
        lines.append((call_id, *map(stored.get, CALL_COLUMNS[1:])))
    return lines


def call_of(columns: dict[str, Any]) -> Call:
    """A line of `conversation_calls` as an object."""
    stream, usage = columns["stream"], columns["usage"]
    columns["stream"] = None if stream is None else bool(stream)
    columns["usage"] = usage_of(usage) if isinstance(usage, str) else usage
    return Call(**columns)
