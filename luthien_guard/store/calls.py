"""The line of a call: what its rows say about it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from luthien_guard.records import EventType
from luthien_guard.store.rows import Row
from luthien_guard.store.texts import plain

__all__ = ["CALL_COLUMNS", "LATEST", "Call", "merge", "projected"]

CALL_COLUMNS: Final = (
    "call_id", "started_at", "ended_at", "wire_format", "endpoint", "model", "stream", "session_id", "user_id",
    "api_key_hash", "outcome", "blocked_by", "usage", "trace_id", "writer",
)  # fmt: skip

#: Columns for which a later row counts, because the end of a call knows better; for the others the first one does.
#: `model` is one of these once the end is known.
LATEST: Final = frozenset({"ended_at", "outcome", "blocked_by", "usage"})

_FROM_REQUEST: Final = (
    "wire_format", "endpoint", "model", "stream", "session_id", "user_id", "api_key_hash", "trace_id", "writer",
)  # fmt: skip

_FROM_END: Final = ("wire_format", "model", "session_id")

_CLOSED: Final = EventType.CLOSED.value

_USAGE: Final = EventType.USAGE.value

#: The rows that say something about their call.
_TELLING: Final = (EventType.REQUEST_RECEIVED.value, _USAGE, _CLOSED)

_seq = attrgetter("seq")


@dataclass(frozen=True, slots=True)
class Call:
    """One line of `conversation_calls`. Times are Unix seconds; `usage` is what the provider counted."""

    call_id: str
    started_at: float | None = None
    ended_at: float | None = None
    wire_format: str | None = None
    endpoint: str | None = None
    model: str | None = None
    stream: bool | None = None
    session_id: str | None = None
    user_id: str | None = None
    api_key_hash: str | None = None
    outcome: str | None = None
    blocked_by: str | None = None
    usage: Mapping[str, Any] | None = None
    trace_id: str | None = None
    # The process that wrote it: when that has died, calls without an end are `interrupted`.
    writer: str | None = None


def projected(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """What these rows say about their calls: call_id -> columns. A store puts a column where it has none yet
    (`COALESCE(existing, new)`; the columns of the end take the new one, and `model` that of the end), so rows may come
    twice and in any order. Values are what every database takes, whatever the client called its model."""
    calls: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=_seq):
        columns = calls.setdefault(row.call_id, {})
        if row.seq == 0:
            columns["started_at"] = row.at
        if row.event_type in _TELLING:
            _put_columns(columns, row)
    return {
        call_id: {name: _column(name, columns[name]) for name in columns}
        for call_id, columns in calls.items()
    }


def _put_columns(columns: dict[str, Any], row: Row) -> None:
    details = row.details
    if row.event_type == _USAGE:
        usage = details.get("usage")
        columns["usage"] = usage if isinstance(usage, Mapping) else None
    elif row.event_type == _CLOSED:
        columns.update(ended_at=row.at, outcome=details.get("outcome"), blocked_by=row.policy)
        columns.update({name: details[name] for name in _FROM_END if details.get(name)})
    else:
        columns.update({name: details[name] for name in _FROM_REQUEST if details.get(name) is not None})


def merge(line: dict[str, Any], row: Row) -> None:
    """Add to the line of a call what one of its rows says, in any order. Raises one of NONSENSE."""
    latest = LATEST | {"model"} if row.event_type == _CLOSED else LATEST
    for column, value in projected([row]).get(row.call_id, {}).items():
        if value is not None and (column in latest or line.get(column) is None):
            line[column] = value


def _column(name: str, value: Any) -> Any:
    if value is None or name in ("started_at", "ended_at", "usage"):
        return value
    if name == "stream":
        return bool(value)
    return plain(value if isinstance(value, str) else json.dumps(value))
