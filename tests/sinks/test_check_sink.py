"""The conformance suite can fail: each broken store breaks one promise, and is told which."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.store import Call, CallFilter, Row, Written
from luthien_guard.testing.sinks import check_sink


class HidesConflicts(SqliteStore):
    def write(self, rows: Any, *, durable: bool = False) -> Written:
        written = super().write(rows, durable=durable)
        return Written(written.stored, written.known + len(written.conflicts))


class LosesBytes(SqliteStore):
    def rows(self, call_id: str, *, after: int = -1) -> list[Row]:
        return [replace(row, payload=row.payload[:500_000]) for row in super().rows(call_id, after=after)]


class CountsAfterFromOne(SqliteStore):
    def rows(self, call_id: str, *, after: int = -1) -> list[Row]:
        return super().rows(call_id, after=after - 1)


class TurnsPages(SqliteStore):
    def calls(self, wanted: CallFilter) -> list[Call]:
        return super().calls(replace(wanted, before=None))


class IgnoresText(SqliteStore):
    def calls(self, wanted: CallFilter) -> list[Call]:
        return super().calls(replace(wanted, text=None))


class ReadsNoBodies(SqliteStore):
    def calls(self, wanted: CallFilter) -> list[Call]:
        text = json.dumps(wanted.text or "", ensure_ascii=False)[1:-1].lower()
        found = super().calls(replace(wanted, text=None))
        return [
            call
            for call in found
            if not text or any(text in row.payload.lower() for row in self.rows(call.call_id))
        ]


class KnowsNoEnd(SqliteStore):
    def unfinished(self, writer: str | None = None) -> list[str]:
        return super().unfinished()


class TailsTwice(SqliteStore):
    def tail(self, position: int | None = None, *, limit: int = 500) -> tuple[int, list[Row]]:
        end, rows = super().tail(position, limit=limit)
        return (end if position is None or not rows else end - 1), rows


class StartsAgain(SqliteStore):
    """With every prune."""

    seen = 0

    def tail(self, position: int | None = None, *, limit: int = 500) -> tuple[int, list[Row]]:
        before, self.seen = self.seen, self.stats()["events"]
        return super().tail(0 if position and self.seen < before else position, limit=limit)


class PrunesNothing(SqliteStore):
    def prune(self, **_: Any) -> int:
        return 0


class PrunesTheUnseen(SqliteStore):
    def prune(self, *, seen: int | None = None, **more: Any) -> int:
        return super().prune(**more)


class PrunesAll(SqliteStore):
    def prune(self, *, before: float | None = None, **more: Any) -> int:
        return super().prune(before=None if before is None else 1e12, **more)


class TrustsClocks(SqliteStore):
    def write(self, rows: Any, *, durable: bool = False) -> Written:
        last = self.pruned() or ""
        fresh = [row for row in rows if row.call_id > last or self.rows(row.call_id)]
        written = super().write(fresh, durable=durable)
        return replace(written, pruned=len(rows) - len(fresh))


class Miscounts(SqliteStore):
    def stats(self) -> Mapping[str, Any]:
        return {**super().stats(), "events": 7}


class RepeatsTheBeginning(SqliteStore):
    """The last word counts, whoever said it."""

    def write(self, rows: Any, *, durable: bool = False) -> Written:
        written = super().write(rows, durable=durable)
        for row in rows:
            if (model := row.details.get("model")) and isinstance(model, str) and model.isalpha():
                self._do(lambda db, new=(model, row.call_id): db.execute("UPDATE conversation_calls SET model=? WHERE call_id=?", new))  # fmt: skip
        return written


class Choosy(SqliteStore):
    def write(self, rows: Any, *, durable: bool = False) -> Written:
        for row in rows:
            if isinstance(row.details.get("model"), list):
                raise TypeError("a list")
        return super().write(rows, durable=durable)


class TakesRowsWhenClosed(SqliteStore):
    def write(self, rows: Any, *, durable: bool = False) -> Written:
        return Written(len(rows)) if self._db is None else super().write(rows, durable=durable)


class Alone(SqliteStore):
    """Who does not write sees what was there when it was opened."""

    wrote = False

    def open(self) -> None:
        super().open()
        self.then = set(self.tail(0, limit=10**6)[1])

    def rows(self, call_id: str, *, after: int = -1) -> list[Row]:
        return [row for row in super().rows(call_id, after=after) if self.wrote or row in self.then]

    def write(self, rows: Any, *, durable: bool = False) -> Written:
        self.wrote = True
        return super().write(rows, durable=durable)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (HidesConflicts, "is a conflict"),
        (LosesBytes, "rows come back as they were"),
        (CountsAfterFromOne, "rows after a number"),
        (TurnsPages, "the page before a call"),
        (IgnoresText, "by text"),
        (ReadsNoBodies, "by a text of a body"),
        (StartsAgain, "behind a prune"),
        (KnowsNoEnd, "calls of another writer"),
        (TailsTwice, "a tail gives"),
        (PrunesNothing, "pruning by age"),
        (PrunesAll, "pruning by age"),
        (PrunesTheUnseen, "a call that came meanwhile"),
        (TrustsClocks, "stored, whatever its id"),
        (Miscounts, "number of events"),
        (RepeatsTheBeginning, "the model is that of the end"),
        (TakesRowsWhenClosed, "a closed store takes rows"),
        (Alone, "another store sees"),
    ],
)
def test_a_broken_store_is_told_which_promise_it_breaks(
    broken: Callable[[Path], SqliteStore], says: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=says):
        check_sink(lambda: broken(tmp_path / "s.db"))


def test_a_store_that_refuses_what_clients_send_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a list"):
        check_sink(lambda: Choosy(tmp_path / "s.db"))
