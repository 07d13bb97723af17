"""The SQL of the store on PostgreSQL, and values as that takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.store import (
    CALL_COLUMNS,
    EVENT_COLUMNS,
    LATEST,
    PAGE,
    Call,
    CallFilter,
    id_at,
    payload_of,
    plain,
    spellings,
    usage_of,
)

__all__ = [
    "CONFLICTS",
    "DROP_PRUNED",
    "HAVE_LINES",
    "INCOMING",
    "INCOMING_COLUMNS",
    "INSERT_EVENTS",
    "LAST_PRUNED",
    "PRUNED",
    "SELECT_CALLS",
    "SELECT_EVENTS",
    "STATS",
    "TAIL",
    "UPSERT_CALLS",
    "call_of",
    "conditions",
    "upserts",
]

_EVENTS: Final = ", ".join(EVENT_COLUMNS)
_CALLS: Final = ", ".join(CALL_COLUMNS)

#: Where COPY puts a batch: one table a connection, and nobody else sees it. `n` is the place in the batch.
INCOMING: Final = (
    'CREATE TEMP TABLE luthien_incoming (n INTEGER, call_id TEXT COLLATE "C", seq INTEGER, at DOUBLE PRECISION, '
    "event_type TEXT, policy TEXT, payload TEXT, prev_hash TEXT, hash TEXT) ON COMMIT DELETE ROWS"
)
INCOMING_COLUMNS: Final = ("n", *EVENT_COLUMNS)
INSERT_EVENTS: Final = (
    f"INSERT INTO conversation_events ({_EVENTS}) SELECT {_EVENTS} FROM luthien_incoming ORDER BY n "
    "ON CONFLICT DO NOTHING"
)
LAST_PRUNED: Final = "SELECT max(call_id) FROM conversation_pruned"
#: Take the rows of these calls out of the batch where retention has taken the others; says which.
DROP_PRUNED: Final = (
    "DELETE FROM luthien_incoming i WHERE i.call_id = ANY($1::text[]) "
    "AND NOT EXISTS (SELECT 1 FROM conversation_events e WHERE e.call_id = i.call_id) RETURNING i.n, i.call_id"
)
HAVE_LINES: Final = "SELECT call_id FROM conversation_calls WHERE call_id = ANY($1::text[])"
#: Nothing that comes later for calls up to this one is stored where all rows are gone.
PRUNED: Final = (
    "WITH other AS (DELETE FROM conversation_pruned WHERE call_id < $1) INSERT INTO conversation_pruned SELECT $1 "
    "WHERE NOT EXISTS (SELECT 1 FROM conversation_pruned WHERE call_id >= $1)"
)
CONFLICTS: Final = (
    "SELECT i.n FROM luthien_incoming i JOIN conversation_events e ON e.call_id = i.call_id AND e.seq = i.seq "
    "WHERE e.hash <> i.hash ORDER BY i.n"
)
_TYPES: Final[Mapping[str, str]] = {
    "started_at": "double precision",
    "ended_at": "double precision",
    "stream": "boolean",
}


def _set(name: str) -> str:
    if name == "model":  # who knows the end knows which one it was, also when the beginning comes again
        return "model = CASE WHEN excluded.ended_at IS NULL THEN coalesce(c.model, excluded.model) ELSE coalesce(excluded.model, c.model) END"
    if name in LATEST:
        return f"{name} = coalesce(excluded.{name}, c.{name})"
    return f"{name} = coalesce(c.{name}, excluded.{name})"


_SET: Final = ", ".join(map(_set, CALL_COLUMNS[1:]))
_UNNEST: Final = ", ".join(
    f"${number}::{_TYPES.get(name, 'text')}[]" for number, name in enumerate(CALL_COLUMNS, 1)
)
UPSERT_CALLS: Final = (
    f"INSERT INTO conversation_calls AS c ({_CALLS}) SELECT * FROM unnest({_UNNEST}) "
    f"ON CONFLICT (call_id) DO UPDATE SET {_SET}"
)
SELECT_CALLS: Final = f"SELECT {_CALLS} FROM conversation_calls c"
SELECT_EVENTS: Final = f"SELECT {_EVENTS} FROM conversation_events"
#: Without those before which there are more bytes of payloads than are read at once.
TAIL: Final = (
    f"SELECT position, {_EVENTS} FROM (SELECT *, sum(octet_length(payload)) OVER (ORDER BY position) "
    "- octet_length(payload) AS before FROM (SELECT * FROM conversation_events WHERE position >= $1 "
    f"ORDER BY position LIMIT $2) AS wanted) AS measured WHERE before < {PAGE} ORDER BY position"
)
STATS: Final = (
    "SELECT (SELECT count(*) FROM conversation_calls) AS calls, (SELECT count(*) FROM conversation_events) AS events, "
    "(SELECT min(started_at) FROM conversation_calls) AS oldest, "
    "(SELECT max(started_at) FROM conversation_calls) AS newest, "
    "(SELECT max(version) FROM schema_migrations) AS schema"
)
_EXISTS: Final = "EXISTS (SELECT 1 FROM conversation_events e WHERE e.call_id = c.call_id AND {})"
#: Of a call whose beginning nobody has, the id says when it was.
_CONDITIONS: Final[Mapping[str, str]] = {
    "since": "(c.started_at >= ${} OR c.started_at IS NULL AND c.call_id >= ${})",
    "until": "(c.started_at < ${} OR c.started_at IS NULL AND c.call_id < ${})",
    "model": "c.model = ${}",
    "endpoint": "c.endpoint = ${}",
    "outcome": "c.outcome = ${}",
    "session_id": "c.session_id = ${}",
    "named": "(left(c.call_id, length(${0}::text)) = ${0} OR right(c.call_id, length(${0}::text)) = ${0})",
    "before": "c.call_id < ${}",
    "policy": _EXISTS.format("e.policy = ${}"),
    "text": _EXISTS.format("e.payload ILIKE ANY(${}::text[])"),
}


def conditions(wanted: CallFilter) -> tuple[str, list[Any]]:
    """The WHERE clause of a filter, and its values."""
    values: list[Any] = []
    parts: list[str] = []
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is None:
            continue
        given = _given(name, value)
        parts.append(condition.format(*range(len(values) + 1, len(values) + len(given) + 1)))
        values += given
    return (f"WHERE {' AND '.join(parts)}" if parts else ""), values


def _given(name: str, value: Any) -> list[Any]:
    """What one condition is about."""
    if name in ("since", "until"):
        return [value, id_at(value)]
    return [[*map(_pattern, spellings(value))] if name == "text" else _stored(value)]


def _pattern(text: str) -> str:
    """No index helps to find it: trigrams of every payload would cost more than all the rest of a write."""
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"


def upserts(calls: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """The columns for UPSERT_CALLS."""
    # always in one order: two writers that meet wait for each other only one way
    ordered = sorted(calls.items())
    return [[call_id for call_id, _ in ordered]] + [
        [_column(name, columns.get(name)) for _, columns in ordered] for name in CALL_COLUMNS[1:]
    ]


def _column(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in ("started_at", "ended_at"):
        return float(value)
    if name == "stream":
        return bool(value)
    if name == "usage":
        return payload_of(value) if isinstance(value, Mapping) else json.dumps(value)
    return _stored(value if isinstance(value, str) else json.dumps(value))


def _stored(value: Any) -> Any:
    """What the client chose must not decide what can be stored."""
    return plain(value) if isinstance(value, str) else value


def call_of(record: Mapping[str, Any]) -> Call:
    """A line of `conversation_calls` as an object."""
    columns = dict(record)
    columns["usage"] = usage_of(columns["usage"])
    return Call(**columns)
