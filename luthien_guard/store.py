"""What a storage sink is: rows go in, calls and rows come out.

A store is blocking and used from one thread at a time (the delivery's writer has one of its own; the query side opens
another): drivers need no locks and no event loop of the application. Two tables on every tier:

    conversation_calls    one line an exchange, a projection of its rows (`CALL_COLUMNS`)
    conversation_events   the rows, append-only; (call_id, seq) is the key
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, Protocol, TypeVar

from luthien_guard.records import EventType

T = TypeVar("T")

__all__ = [
    "CALL_COLUMNS",
    "EVENT_COLUMNS",
    "LATEST",
    "NONSENSE",
    "PAGE",
    "Call",
    "CallFilter",
    "Row",
    "Store",
    "Written",
    "begun",
    "chained",
    "id_at",
    "intact",
    "merge",
    "paged",
    "payload_of",
    "plain",
    "projected",
    "spellings",
    "usage_of",
]

EVENT_COLUMNS: Final = ("call_id", "seq", "at", "event_type", "policy", "payload", "prev_hash", "hash")


@dataclass(frozen=True, slots=True)
class Row:
    """One record as it is stored. `at`: Unix seconds; `payload`: a JSON object; the hashes are hex SHA-256."""

    call_id: str
    seq: int
    at: float
    event_type: str
    policy: str | None
    payload: str
    prev_hash: str
    hash: str

    @property
    def details(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.payload)
        return found


def chained(
    call_id: str, seq: int, at: float, event_type: str, policy: str | None, payload: str, prev_hash: str
) -> Row:
    """The row with its hash: over every column and the hash before it, so that no row can be changed, taken out or
    put in without breaking the chain. The first `prev_hash` of a call is the empty string."""
    text = json.dumps([prev_hash, call_id, seq, repr(at), event_type, policy, payload], ensure_ascii=True)
    return Row(
        call_id, seq, at, event_type, policy, payload, prev_hash, hashlib.sha256(text.encode()).hexdigest()
    )


#: What reading rows may raise that were never written by a guard.
NONSENSE: Final = (ValueError, TypeError, AttributeError, RecursionError, OverflowError)


def intact(row: Row) -> bool:
    """The row is what was chained, to the last bit; whatever there is instead of it."""
    columns = (row.call_id, row.seq, row.at, row.event_type, row.policy, row.payload, row.prev_hash)
    try:
        return chained(*columns).hash == row.hash
    except NONSENSE:
        return False


def id_at(moment: float) -> str:
    """What the ids (UUIDv7) of that moment begin with. `moment`: Unix seconds."""
    digits = f"{int(min(max(moment * 1000, 0), 2**48 - 1)):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def begun(rows: Iterable[Row]) -> set[str]:
    """The calls whose beginning is among these: new to the store, whatever their ids say, for clocks are set back. (An
    end without a row before it is all that is left of a call whose process died.)"""
    return {row.call_id for row in rows if row.seq == 0 and row.event_type != _CLOSED}


#: `json.dumps` with these options makes one anew for every call.
_readable: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str
).encode


def payload_of(details: Mapping[str, Any]) -> str:
    """Details as the JSON that is stored, readable and searchable; lone surrogates, which no database takes, stay as
    escapes, and numbers that JSON does not have are text ("NaN", "Infinity", "-Infinity"). Raises ValueError for what
    holds itself."""
    try:
        text = _readable(details)
    except ValueError:
        text = _readable(json.loads(json.dumps(details, default=str), parse_constant=str))
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), separators=(",", ":"))
    return text


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


CALL_COLUMNS: Final = (
    "call_id", "started_at", "ended_at", "wire_format", "endpoint", "model", "stream", "session_id", "user_id",
    "api_key_hash", "outcome", "blocked_by", "usage", "trace_id", "writer",
)  # fmt: skip
#: The end of a call says these again, and knows better; of the others the first stands. `model` is of these where the end
#: is known.
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


def plain(text: str) -> str:
    """As a column of text holds it: PostgreSQL has no NUL, and no database a lone surrogate."""
    if text.isascii():  # nearly always
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def spellings(text: str) -> list[str]:
    """How a payload may hold the text: in its JSON, or in that of a body inside of it; in both, what is not ASCII may
    be escaped. None of them has a NUL or a lone surrogate."""
    once = [_escaped(text, ascii) for ascii in (False, True)]
    twice = [_escaped(each, ascii) for each in once for ascii in (False, True)]
    return [each for each in dict.fromkeys([*once, *twice]) if plain(each) == each]


def _escaped(text: str, ascii: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii)[1:-1]


def usage_of(column: str | None) -> Mapping[str, Any] | None:
    """The usage that a line holds as JSON. A line that somebody broke can still be listed, and is: as it stands there."""
    try:
        found = None if column is None else json.loads(column)
    except (ValueError, RecursionError):
        found = column
    return found if found is None or isinstance(found, dict) else {"unreadable": column}


#: Characters of payloads that are read at once: of the largest requests a few hundred rows would fill the memory.
PAGE: Final = 16 * 1024 * 1024


def paged(items: Iterable[T], payload: Callable[[T], object]) -> Iterator[T]:
    """As many as are within PAGE, and at least one. (A payload that is no text was never written.)"""
    left = PAGE
    for each in items:
        yield each
        text = payload(each)
        left -= len(text) if isinstance(text, str | bytes) else 0
        if left <= 0:
            return


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls: every condition that is not None holds. `text` is looked for in the payloads of the events
    (a substring, whatever the case; also inside of a body, which is JSON of its own); newest first; `before` is the call_id that ended the last page."""

    since: float | None = None
    until: float | None = None
    model: str | None = None
    endpoint: str | None = None
    outcome: str | None = None
    policy: str | None = None  # any event of this policy
    session_id: str | None = None
    text: str | None = None
    named: str | None = None  # ids that begin or end with this
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch: new rows, rows that were there already (same hash), rows whose key was there with another
    content, which are left as they were, and rows of calls that retention has taken, which are not stored."""

    stored: int = 0
    known: int = 0
    conflicts: tuple[Row, ...] = field(default=())
    quarantined: int = 0  # rows that the store never took, by the delivery's judgement
    pruned: int = 0
    evicted: int = 0  # rows stored earlier that had to go, for the store keeps itself within a bound


class Store(Protocol):
    """A storage sink. Every method may raise SinkError; `write` is one transaction: all of it or nothing."""

    remote: bool  # not on this machine: a spool stands before it

    def open(self) -> None:
        """Connect and bring the schema up to date, under a lock. Raises SinkError that says precisely what is wrong
        (unreachable, malformed, a newer schema than this code)."""
        ...

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        """Append the rows and project them. When it returns they are visible; with `durable` they are also on disk.

        What comes late of a call that `prune` took is not stored (half a call would look like one that somebody tampered
        with), and counted as `pruned`: a call of which there are no rows, whose beginning is not among these (`begun`), and
        whose id is not greater than that of one that went. Where its line was kept, that still hears how it ended. A call
        that comes whole is stored, also where it was pruned before: the next `prune` takes it again."""
        ...

    def call(self, call_id: str) -> Call | None: ...

    def calls(self, wanted: CallFilter) -> list[Call]:
        """Newest first (`call_id` sorts by time)."""
        ...

    def rows(self, call_id: str, *, after: int = -1) -> list[Row]:
        """The rows of a call with a `seq` greater than `after`, in order."""
        ...

    def tail(self, position: int | None = None, *, limit: int = 500) -> tuple[int, list[Row]]:
        """Rows in the order in which they were stored, after `position`; with None no rows and the position of now.
        Returns the position to go on from: a number that says nothing else. No more than `limit` rows, and fewer where
        they are large (`paged`); none only where there are none. From 0 every row is seen; and who follows goes
        on where a file was replaced or pruned meanwhile, though a look may find nothing on the way."""
        ...

    def unfinished(self, writer: str | None = None) -> list[str]:
        """The ids of calls without an end (of this writer)."""
        ...

    def prune(
        self,
        *,
        before: float | None = None,
        max_bytes: int | None = None,
        events_only: bool = False,
        seen: int | None = None,
    ) -> int:
        """Delete what started before `before` (Unix seconds), then the oldest until the store is within `max_bytes`.
        `events_only` keeps the line in `conversation_calls`. `seen` is a position of the tail: calls of which a row
        stands behind it stay, for who read up to there has not seen it. Returns the number of calls touched. Raises
        SinkError, also for a position in a file that has been replaced."""
        ...

    def pruned(self) -> str | None:
        """The greatest id of a call that `prune` took; None where it took none. Of a call up to here the rows may be
        missing; of a younger one somebody else took them."""
        ...

    def stats(self) -> Mapping[str, Any]:
        """At least `calls`, `events`, `bytes`, `schema`, `oldest` and `newest` (Unix seconds or None)."""
        ...

    def close(self) -> None: ...
