"""A store in memory that can be away, slow, full, or dislike a row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from luthien_guard.errors import SinkError
from luthien_guard.records import EventType
from luthien_guard.store import Call, CallFilter, Row, Written


class ListStore:
    """`problem` says why it takes nothing; `gate` must be set for a write to go through; `poison` is never taken."""

    def __init__(self, *, remote: bool = False, path: Path | None = None) -> None:
        self.remote = remote
        self.path = path  # what belongs to it stands beside this
        self.kept: dict[tuple[str, int], Row] = {}
        self.problem: str | None = None
        self.poison: Callable[[Row], bool] = lambda row: False
        self.gate = threading.Event()
        self.gate.set()
        self.writes: list[tuple[int, bool]] = []  # rows and durable of each transaction
        self.changed = threading.Condition()
        self.opened = self.refusals = 0

    def open(self) -> None:
        self._check()
        self.opened += 1

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        self.gate.wait(30)
        self._check()
        if any(self.poison(row) for row in rows):
            raise SinkError("a row that nobody likes")
        fresh = [row for row in rows if (row.call_id, row.seq) not in self.kept]
        conflicts = tuple(
            row for row in rows if (old := self.kept.get((row.call_id, row.seq))) and old.hash != row.hash
        )
        with self.changed:
            self.kept.update({(row.call_id, row.seq): row for row in fresh})
            self.writes.append((len(rows), durable))
            self.changed.notify_all()
        return Written(len(fresh), len(rows) - len(fresh) - len(conflicts), conflicts)

    def wait(self, count: int) -> None:
        """Until so many rows are there."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.kept) >= count, timeout=30), len(self.kept)

    def rows(self, call_id: str, *, after: int = -1) -> list[Row]:
        return [self.kept[key] for key in sorted(self.kept) if key[0] == call_id and key[1] > after]

    def unfinished(self, writer: str | None = None) -> list[str]:
        ended = {row.call_id for row in self.kept.values() if row.event_type == EventType.CLOSED.value}
        return sorted({call_id for call_id, _ in self.kept} - ended)

    def call(self, call_id: str) -> Call | None:
        raise NotImplementedError

    def calls(self, wanted: CallFilter) -> list[Call]:
        raise NotImplementedError

    def tail(self, position: int | None = None, *, limit: int = 500) -> tuple[int, list[Row]]:
        raise NotImplementedError

    def prune(
        self,
        *,
        before: float | None = None,
        max_bytes: int | None = None,
        events_only: bool = False,
        seen: int | None = None,
    ) -> int:
        raise NotImplementedError

    def pruned(self) -> str | None:
        raise NotImplementedError

    def stats(self) -> Mapping[str, Any]:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.problem is not None:
            self.refusals += 1
            raise SinkError(self.problem)
