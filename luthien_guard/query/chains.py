"""One pass over all rows in the order in which they were stored: quick for every store, and enough where all is well.

It says of which calls the chain is whole. Of the others it says only that they need a closer look: rows may have come in
another order, or be written just now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from luthien_guard.query.line import digest, line_of
from luthien_guard.records import EventType
from luthien_guard.store import NONSENSE, Call, Row, Store, intact, merge

__all__ = ["Chains", "row_problem", "walked"]

_PAGE: Final = 1000
_END: Final = EventType.CLOSED.value


def row_problem(call_id: str, row: Row, seq: int, before: str) -> str | None:
    """Why this row cannot be the one with number `seq`, after the one with the hash `before`."""
    if type(row.seq) is not int or row.seq != seq:
        return "a row is there twice" if type(row.seq) is int and row.seq < seq else "a row is missing"
    if row.prev_hash != before:
        return "it does not follow from the row before it"
    if row.call_id != call_id or not intact(row):
        return "it is not what was written"
    return None


@dataclass(slots=True)
class _Chain:
    rows: int = 0
    hash: str = ""
    line: dict[str, Any] = field(default_factory=dict[str, Any])


class Chains:
    """The calls of which rows were seen. Of a whole chain with an end nothing is kept but what its line must say."""

    def __init__(self) -> None:
        self.rows = 0
        self._open: dict[str, _Chain] = {}
        self._ended: dict[str, bytes] = {}
        self._doubtful: set[str] = set()

    def add(self, row: Row) -> None:
        self.rows += 1
        call_id = row.call_id
        if call_id in self._doubtful:
            return
        if call_id in self._ended or not self._follows(call_id, row):
            self._ended.pop(call_id, None)
            self._open.pop(call_id, None)
            self._doubtful.add(call_id)
        elif row.event_type == _END:
            self._ended[call_id] = digest(self._open.pop(call_id).line)

    def _follows(self, call_id: str, row: Row) -> bool:
        chain = self._open.setdefault(call_id, _Chain())
        if row_problem(call_id, row, chain.rows, chain.hash) is not None:
            return False
        try:
            merge(chain.line, row)
        except NONSENSE:
            return False
        chain.rows += 1
        chain.hash = row.hash
        return True

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._ended or call_id in self._open or call_id in self._doubtful

    def take(self, call: Call) -> str | None:
        """Forget the call: "ended" or "open" if its chain is whole and its line says so, else None."""
        call_id = call.call_id
        ended, chain = self._ended.pop(call_id, None), self._open.pop(call_id, None)
        self._doubtful.discard(call_id)
        found = ended if chain is None else digest(chain.line)
        if found is None or found != digest(line_of(call)):
            return None
        return "open" if chain is not None else "ended"

    def left(self) -> Iterable[str]:
        """The calls that nobody took."""
        return [*self._ended, *self._open, *self._doubtful]


def walked(store: Store, tell: Callable[[int], None]) -> Chains:
    """See every row; `tell` hears how many. Empty where the pass did not see all that there is: somebody hides rows from
    it, or deletes them just now."""
    expected = int(store.stats()["events"])
    chains = Chains()
    position, rows = store.tail(0, limit=_PAGE)
    while rows:
        for row in rows:
            chains.add(row)
        tell(chains.rows)
        position, rows = store.tail(position, limit=_PAGE)
    return chains if chains.rows >= expected else Chains()
