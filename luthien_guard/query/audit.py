"""Is the record whole? Every chain is followed from its first row to its last, and compared with the line of its call.

What it proves: no row was changed, put in, taken out or moved since it was chained, short of writing the whole end of a
chain anew. What it cannot see: a call that was taken out with all it had, and an end that was cut off together with the
line of the call; both look like a process that died before it wrote. Who has to exclude them keeps copies elsewhere (the
hashes of `exchange.closed`, for a start).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from luthien_guard.query.chains import Chains, row_problem, walked
from luthien_guard.query.line import line_of, other_column, said_by
from luthien_guard.records import EventType
from luthien_guard.store import NONSENSE, Call, CallFilter, Row, Store, plain

__all__ = ["Finding", "Report", "audit", "broken", "verify"]

_PAGE: Final = 10_000
_TRIES: Final = 5  # looks at a call that somebody writes meanwhile
_END: Final = EventType.CLOSED.value
_NOTHING: Final = "all of its rows are missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first row of a call that does not fit, and why. `seq` is where it stands, or should. With an empty `call_id`:
    something in the store of which nobody can say whose it was."""

    call_id: str
    seq: int
    problem: str


@dataclass(slots=True)
class Report:
    """What was looked at. `open`: calls that have no end (yet); `pruned`: calls of which retention kept the line and no
    rows, as far as the store remembers that it went. Neither is a finding."""

    calls: int = 0
    events: int = 0
    open: int = 0
    pruned: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])


def audit(
    store: Store, call_id: str | None = None, *, progress: Callable[[Report], None] | None = None
) -> Report:
    """Look at every call, or at one. `progress` is called now and then with what was found so far. Raises SinkError."""
    report = Report()
    report.findings += _findings(store, call_id, report, progress or (lambda _: None))
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
        problem = row_problem(call_id, row, seq, before)
        if problem is None and row.event_type == _END and seq < len(rows) - 1:
            problem = "something follows the end of the call"
        if problem is not None:
            return Finding(call_id, seq, problem)
        before = row.hash
    return None


def _findings(
    store: Store, only: str | None, report: Report, progress: Callable[[Report], None]
) -> Iterator[Finding]:
    if only is None:
        yield from (Finding("", 0, problem) for problem in _damage(store))
        yield from _All(store, report, progress).findings()
        return
    line = store.call(only)
    finding, rows = _looked_at(store, only, line)
    report.calls, report.events = 1, len(rows)
    report.open = int(_is_open(rows))
    if not rows and line is not None and _Retention(store).took(only):
        report.pruned = 1
    elif finding is not None or not rows:
        yield finding or Finding(only, 0, _NOTHING)


def _damage(store: Store) -> Sequence[str]:
    """What of the store is no row at all: only a store that reads line by line can say so, and has a method for it."""
    damage: Callable[[], Sequence[str]] = getattr(store, "damage", tuple)
    return damage()


class _Retention:
    """Up to which call it went: what somebody else took may not pass for its work."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last = ""

    def took(self, call_id: str) -> bool:
        if call_id > self._last:  # or it runs just now
            self._last = self._store.pruned() or ""
        return call_id <= self._last


class _All:
    """Every call: what one pass over all rows finds in order needs no closer look."""

    def __init__(self, store: Store, report: Report, progress: Callable[[Report], None]) -> None:
        self.store = store
        self.report = report
        self.progress = progress
        self.retention = _Retention(store)

    def findings(self) -> Iterator[Finding]:
        chains = walked(self.store, self._tell)
        self.report.events = chains.rows
        for line in _lines(self.store):
            yield from self._line(line, chains)
            self.report.calls += 1
            self.progress(self.report)
        for call_id in chains.left():  # nobody would look at their rows
            finding = _no_id(call_id, "rows") or _looked_at(self.store, call_id, None)[0]
            if finding is not None:
                yield finding

    def _tell(self, rows: int) -> None:
        self.report.events = rows
        self.progress(self.report)

    def _line(self, line: Call, chains: Chains) -> Iterator[Finding]:
        seen = line.call_id in chains
        state = chains.take(line)
        if (nameless := _no_id(line.call_id, "a line")) is not None:
            yield nameless
            return
        if state is not None:
            self.report.open += state == "open"
            return
        finding, rows = _looked_at(self.store, line.call_id, line)
        self.report.events += 0 if seen else len(rows)
        self.report.open += _is_open(rows)
        if finding is not None and not rows and self.retention.took(line.call_id):
            self.report.pruned += 1
        elif finding is not None:
            yield finding


def _no_id(call_id: str, what: str) -> Finding | None:
    """What has such an id was never written, and no store can be asked for it."""
    return (
        None
        if plain(call_id) == call_id
        else Finding("", 0, f"somebody put in {what} of {call_id!r}, which is no call")
    )


def _lines(store: Store) -> Iterator[Call]:
    before: str | None = None
    while page := store.calls(CallFilter(before=before, limit=_PAGE)):
        yield from page
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


def _line_problem(call_id: str, line: Call | None, rows: Sequence[Row]) -> Finding | None:
    """Lists are made from the lines, so these may say nothing else than the rows."""
    if line is None:
        return Finding(call_id, 0, "there is no line of its call")
    try:
        column = other_column(line_of(line), said_by(rows))
    except NONSENSE:
        return Finding(call_id, 0, "its rows fit, and are of a kind that is never written")
    if column is None:
        return None
    return Finding(call_id, len(rows) - 1, f"the line of the call has another {column}")


def _is_open(rows: Sequence[Row]) -> bool:
    return bool(rows) and rows[-1].event_type != _END
