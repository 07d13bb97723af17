"""What a storage sink is: rows go in, calls and rows come out.

A store is blocking and needs no event loop of the application. The delivery's writer uses it from a thread of its own,
and the query side opens another one by its URL; only a store that was given as an object, or that ends with the process,
is used by both at once, and so has a lock. Two tables on every tier:

    conversation_calls    one line an exchange, a projection of its rows (`CALL_COLUMNS`)
    conversation_events   the rows, append-only; (call_id, seq) is the key
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from luthien_guard.store.calls import CALL_COLUMNS, LATEST, Call, merge, projected
from luthien_guard.store.rows import EVENT_COLUMNS, NONSENSE, PAGE, Row, begun, chained, id_at, intact, paged
from luthien_guard.store.texts import payload_of, plain, spellings, usage_of

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

    def call(self, call_id: str) -> Call | None:
        """The line of a call, by its whole id."""
        ...

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

    def close(self) -> None:
        """Let go of files and connections: no row is taken after it."""
        ...
