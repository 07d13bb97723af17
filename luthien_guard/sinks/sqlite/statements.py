"""The SQL of the embedded store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.store import CALL_COLUMNS, EVENT_COLUMNS, Call, CallFilter

__all__ = [
    "INSERT_EVENT",
    "SELECT_CALLS",
    "SELECT_EVENTS",
    "STATS",
    "TAIL",
    "UPSERT_CALL",
    "call_of",
    "conditions",
    "upserts",
]

_EVENTS: Final = ", ".join(EVENT_COLUMNS)
_CALLS: Final = ", ".join(CALL_COLUMNS)
#: The end of a call says these again, and knows better.
_LATEST: Final = frozenset({"ended_at", "outcome", "blocked_by", "usage", "model"})

INSERT_EVENT: Final = f"INSERT INTO conversation_events ({_EVENTS}) VALUES ({', '.join('?' * len(EVENT_COLUMNS))}) ON CONFLICT DO NOTHING"
_SET: Final = ", ".join(
    f"{name} = coalesce(excluded.{name}, {name})"
    if name in _LATEST
    else f"{name} = coalesce({name}, excluded.{name})"
    for name in CALL_COLUMNS[1:]
)
UPSERT_CALL: Final = (
    f"INSERT INTO conversation_calls ({_CALLS}) VALUES ({', '.join('?' * len(CALL_COLUMNS))}) "
    f"ON CONFLICT (call_id) DO UPDATE SET {_SET}"
)
SELECT_CALLS: Final = f"SELECT {_CALLS} FROM conversation_calls"
SELECT_EVENTS: Final = f"SELECT {_EVENTS} FROM conversation_events"
TAIL: Final = (
    f"SELECT position, {_EVENTS} FROM conversation_events WHERE position > ? ORDER BY position LIMIT ?"
)
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
}


def conditions(wanted: CallFilter) -> tuple[str, tuple[Any, ...]]:
    """The WHERE clause of a filter, and its values."""
    given = {name: getattr(wanted, name) for name in _CONDITIONS if getattr(wanted, name) is not None}
    if "text" in given:
        given["text"] = _pattern(given["text"])
    where = " AND ".join(_CONDITIONS[name] for name in given)
    return (f"WHERE {where}" if where else ""), tuple(given.values())


def _pattern(text: str) -> str:
    """A LIKE pattern for the text as it stands in JSON: no index helps to find a part of a word, and no tokenizer knows
    what people look for in code and arguments."""
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    for special in ("\\", "%", "_"):
        escaped = escaped.replace(special, f"\\{special}")
    return f"%{escaped}%"


def upserts(calls: Mapping[str, Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Values for UPSERT_CALL."""
    return [
        (call_id, *(_stored(columns.get(name)) for name in CALL_COLUMNS[1:]))
        for call_id, columns in calls.items()
    ]


def _stored(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, Mapping) else value


def call_of(columns: dict[str, Any]) -> Call:
    """A line of `conversation_calls` as an object."""
    stream, usage = columns["stream"], columns["usage"]
    columns["stream"] = None if stream is None else bool(stream)
    columns["usage"] = json.loads(usage) if isinstance(usage, str) else usage
    return Call(**columns)
