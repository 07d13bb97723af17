"""Where every record goes through: redacted, handed to the sinks at once, queued for the journal."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from luthien_guard.delivery.journal import Journal
from luthien_guard.delivery.latest import Latest
from luthien_guard.delivery.ledger import Ledger
from luthien_guard.delivery.recorder import Recorder
from luthien_guard.delivery.redaction import Redactor
from luthien_guard.delivery.storage import Storage
from luthien_guard.forks import told_of_forks
from luthien_guard.records import EventType, Record, Sink

__all__ = ["Delivery"]

logger = logging.getLogger("luthien_guard")


class Delivery:
    """Hands records to every sink and to the journal. `refused` counts what a sink refused, by sink and reason."""

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        storage: Storage | None = None,
        durability: Literal["balanced", "strict"] = "balanced",
        redact: Redactor | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.sinks = tuple(sinks)
        self._storage = storage
        self.durability = durability
        self.redact = redact or Redactor()
        #: Held while a fact gets its number: handlers of an application may record from threads.
        self.in_turn = threading.RLock()
        self.latest = Latest(self.redact, lock=self.in_turn)
        told_of_forks(self, Delivery._after_fork)
        self._own = Ledger()  # where no store is
        self.refused: Counter[tuple[str, str]] = Counter()
        self.now = now
        #: Somebody takes records besides the memory of this process.
        self.has_takers = storage is not None or bool(self.sinks)

    def _after_fork(self) -> None:
        self.in_turn = self.latest.lock = threading.RLock()

    @property
    def journal(self) -> Journal | None:
        """The storage's of now: a fork has another one than its parent."""
        return None if self._storage is None else self._storage.journal

    @property
    def _ledger(self) -> Ledger:
        return self._own if self._storage is None else self._storage.ledger

    def recorder(self, call_id: str, secrets: Sequence[str] = ()) -> Recorder:
        """`secrets`: the credentials of this exchange, which no record may hold."""
        return Recorder(self, call_id, secrets)

    def put(
        self,
        call_id: str,
        seq: int,
        type: EventType,
        policy: str | None,
        details: dict[str, Any],
        secrets: Sequence[str] = (),
        *,
        stored: bool = True,
    ) -> bool:
        """False for what has no room: it is counted, and its number is free for the next. `stored=False`: for the sinks
        of this process only, and counted as dropped."""
        journal: Journal | None = None
        if (storage := self._storage) is not None:
            journal = storage.journal
            if stored and not journal.has_room(type):
                return False
            if seq == 0:
                details = {**details, "writer": storage.writer.id}
        at = self.now()
        self.latest.put(call_id, seq, at, type, policy, details, secrets)
        if not self.has_takers:
            return True
        record = Record(call_id, seq, at, type, policy, self.redact.details(type, details, secrets))
        self._hand_out(record)
        if journal is not None:
            journal.put(record) if stored else journal.refuse()
        return True

    def _hand_out(self, record: Record) -> None:
        for sink in self.sinks:
            try:
                sink.put(record)
            except Exception as error:  # noqa: BLE001 -- a sink must not break traffic
                self._refused(sink, error)

    def late(self) -> None:
        """A record came after the end of its exchange, where no sink expects one."""
        self._ledger.accept()
        self._ledger.drop("late")

    async def durable(self) -> None:
        """Everything that was put so far is on disk. Raises SinkError."""
        if self.journal is not None:
            await self.journal.durable()

    def _refused(self, sink: Sink, error: Exception) -> None:
        key = (type(sink).__name__, type(error).__name__)
        self.refused[key] += 1
        # 1, 2, 4, 8, ...: a flood of failures is no flood of log lines.
        if self.refused[key].bit_count() == 1:
            logger.warning("sink %s refuses records (%d so far): %s", key[0], self.refused[key], error)

    def ledger(self) -> Mapping[str, int]:
        """`accepted == stored + spooled + in_memory + dropped`, always."""
        counts = dict(self._ledger.snapshot())
        if self._storage is None:
            counts["accepted"] += self.latest.taken
            counts["stored"] += self.latest.taken
        counts["refused"] = self.refused.total()
        return counts
