"""Is the record whole? Every chain is followed from its first row to its last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luthien_guard.records import EventType
from luthien_guard.store import CallFilter, Row, Store, intact

__all__ = ["Finding", "broken", "verify"]

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Finding:
    """The first row of a call that does not fit, and why. `seq` is where it stands, or should."""

    call_id: str
    seq: int
    problem: str


def verify(store: Store, call_id: str | None = None) -> Iterator[Finding]:
    """What is wrong, a finding for each broken call, newest first. A call that is still under way is no finding."""
    for each in [call_id] if call_id is not None else _call_ids(store):
        found = broken(each, store.rows(each))
        if found is not None:
            yield found


def _call_ids(store: Store) -> Iterator[str]:
    before: str | None = None
    while page := store.calls(CallFilter(before=before, limit=_PAGE)):
        yield from (call.call_id for call in page)
        before = page[-1].call_id


def broken(call_id: str, rows: Sequence[Row]) -> Finding | None:
    """The first thing that is wrong with the rows of a call."""
    if not rows:
        return Finding(call_id, 0, "all of its rows are missing")
    before = ""
    for seq, row in enumerate(rows):
        problem = _problem(row, seq, before, last=seq == len(rows) - 1)
        if problem is not None:
            return Finding(call_id, seq, problem)
        before = row.hash
    return None


def _problem(row: Row, seq: int, before: str, *, last: bool) -> str | None:
    if row.seq != seq:
        return "a row is missing" if row.seq > seq else "a row is there twice"
    if row.prev_hash != before:
        return "it does not follow from the row before it"
    if not intact(row):
        return "it is not what was written"
    if (row.event_type == EventType.CLOSED.value) and not last:
        return "something follows the end of the call"
    return None
