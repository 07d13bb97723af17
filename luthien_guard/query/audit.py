"""Is the record whole? Every chain is followed from its first row to its last, and compared with the line of its call.

What it proves: no row was changed, put in, taken out or moved since it was chained, short of writing the whole end of a
chain anew. What it cannot see: a call that was taken out with all it had, and an end that was cut off together with the
line of the call; both look like a process that died before it wrote. Who has to exclude them keeps copies elsewhere (the
hashes of `exchange.closed`, for a start).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from luthien_guard.records import EventType
from luthien_guard.store import CALL_COLUMNS, Call, CallFilter, Row, Store, intact, projected

__all__ = ["Finding", "Report", "audit", "broken", "verify"]

_PAGE: Final = 500
_TRIES: Final = 5  # looks at a call that somebody writes meanwhile
_END: Final = EventType.CLOSED.value
#: The end of a call says these again, and knows better; of the others the first stands.
_LATEST: Final = frozenset({"ended_at", "outcome", "blocked_by", "usage", "model"})
_NOTHING: Final = "all of its rows are missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first row of a call that does not fit, and why. `seq` is where it stands, or should."""

    call_id: str
    seq: int
    problem: str


@dataclass(slots=True)
class Report:
    """What was looked at. `open`: calls that have no end (yet); `pruned`: the oldest calls, of which retention kept the
    line and no rows. Neither is a finding."""

    calls: int = 0
    events: int = 0
    open: int = 0
    pruned: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])


def audit(
    store: Store, call_id: str | None = None, *, progress: Callable[[Report], None] | None = None
) -> Report:
    """Look at every call, or at one. `progress` is called after each with what was found so far. Raises SinkError."""
    report = Report()
    for finding in _findings(store, call_id, report, progress or (lambda _: None)):
        report.findings.append(finding)
    return report


def verify(store: Store, call_id: str | None = None) -> Iterator[Finding]:
    """What is wrong, a finding for each broken call, newest first. A call that is still under way is no finding."""
    yield from _findings(store, call_id, Report(), lambda _: None)


def broken(call_id: str, rows: Sequence[Row]) -> Finding | None:
    """The first thing that is wrong with the rows of a call."""
    if not rows:
        return Finding(call_id, 0, _NOTHING)
    before = ""
    for seq, row in enumerate(rows):
        problem = _problem(call_id, row, seq, before, last=seq == len(rows) - 1)
        if problem is not None:
            return Finding(call_id, seq, problem)
        before = row.hash
    return None


def _problem(call_id: str, row: Row, seq: int, before: str, *, last: bool) -> str | None:
    if type(row.seq) is not int or row.seq != seq:
        return "a row is there twice" if type(row.seq) is int and row.seq < seq else "a row is missing"
    if row.prev_hash != before:
        return "it does not follow from the row before it"
    if row.call_id != call_id or not intact(row):
        return "it is not what was written"
    if row.event_type == _END and not last:
        return "something follows the end of the call"
    return None


# -- all calls ---------------------------------------------------------------------------------------------------------


def _findings(
    store: Store, only: str | None, report: Report, progress: Callable[[Report], None]
) -> Iterator[Finding]:
    bare: list[
        tuple[str, float]
    ] = []  # (call_id, started_at) of lines without rows that may have been pruned
    seen: set[str] = set()
    for call_id, line in _lines(store, only):
        finding, rows = _looked_at(store, call_id, line)
        report.calls += 1
        report.events += len(rows)
        report.open += bool(rows) and rows[-1].event_type != _END
        seen.add(call_id)
        if rows:
            yield from _not_pruned(bare, min(_started(line), _moment(rows[0].at)))
        if only is not None and not rows:
            yield Finding(call_id, 0, _NOTHING)
        elif finding is not None and not rows:
            bare.append((call_id, _started(line)))
        elif finding is not None:
            yield finding
        progress(report)
    report.pruned = len(bare)
    if only is None:
        yield from _orphans(store, seen)


def _lines(store: Store, only: str | None) -> Iterator[tuple[str, Call | None]]:
    if only is not None:
        yield only, store.call(only)
        return
    before: str | None = None
    while page := store.calls(CallFilter(before=before, limit=_PAGE)):
        yield from ((call.call_id, call) for call in page)
        before = page[-1].call_id


def _looked_at(store: Store, call_id: str, line: Call | None) -> tuple[Finding | None, Sequence[Row]]:
    """What is wrong with a call, after looks at a line and rows that belong together: somebody may be writing."""
    rows = store.rows(call_id)
    finding = broken(call_id, rows) or _line_problem(call_id, line, rows)
    for _ in range(_TRIES):
        if finding is None:
            break
        line, before, rows = store.call(call_id), rows, store.rows(call_id)
        if line is None and not rows:
            return None, ()  # pruned meanwhile
        finding = broken(call_id, rows) or _line_problem(call_id, line, rows)
        if rows == before:  # and the line in between is of these
            break
    return finding, rows


def _not_pruned(bare: list[tuple[str, float]], started: float) -> Iterator[Finding]:
    """Retention takes the oldest: lines without rows that are younger than a call with rows lost them otherwise."""
    for each in [each for each in bare if each[1] > started]:
        bare.remove(each)
        yield Finding(each[0], 0, _NOTHING)


def _started(line: Call | None) -> float:
    return _moment(None if line is None else line.started_at)


def _moment(at: Any) -> float:
    """Databases that were tampered with hold anything."""
    return float(at) if isinstance(at, int | float) else float("inf")


def _orphans(store: Store, seen: set[str]) -> Iterator[Finding]:
    """Calls whose line is gone, so that nobody would look at their rows."""
    position, rows = store.tail(0, limit=_PAGE)
    while rows:
        for row in rows:
            if row.call_id not in seen:
                seen.add(row.call_id)
                if store.call(row.call_id) is None and store.rows(row.call_id):
                    yield Finding(row.call_id, row.seq, "there is no line of its call")
        position, rows = store.tail(position, limit=_PAGE)


# -- the line of a call ------------------------------------------------------------------------------------------------


def _line_problem(call_id: str, line: Call | None, rows: Sequence[Row]) -> Finding | None:
    """Lists are made from the lines, so these may say nothing else than the rows."""
    if line is None:
        return Finding(call_id, 0, "there is no line of its call")
    try:
        said = _said(rows)
    except (ValueError, TypeError, AttributeError):
        return Finding(call_id, 0, "its rows fit, and are of a kind that is never written")
    for column in CALL_COLUMNS[1:]:
        if getattr(line, column) != said.get(column):
            return Finding(call_id, len(rows) - 1, f"the line of the call has another {column}")
    return None


def _said(rows: Sequence[Row]) -> dict[str, Any]:
    """The line as the rows make it."""
    found: dict[str, Any] = {}
    for row in rows:
        for column, value in projected([row]).get(row.call_id, {}).items():
            if value is not None and (column in _LATEST or found.get(column) is None):
                found[column] = value
    return found
