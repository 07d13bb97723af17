"""Records on their way to sinks: numbered per exchange, never in the way of traffic, every drop counted."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from luthien_guard.records import EventType, Record, Sink

__all__ = ["Delivery"]

logger = logging.getLogger("luthien_guard")


class Delivery:
    """Hands records to every sink. `dropped` counts what a sink refused, by sink and reason."""

    def __init__(self, sinks: Sequence[Sink], *, now: Callable[[], float] = time.time) -> None:
        self.sinks = tuple(sinks)
        self.accepted = 0
        self.dropped: Counter[tuple[str, str]] = Counter()
        self._now = now

    def recorder(self, call_id: str) -> Callable[..., None]:
        """The function that records facts of one exchange: `record(type, policy=None, **details)`."""
        seq = 0

        def record(type: EventType, /, *, policy: str | None = None, **details: Any) -> None:
            nonlocal seq
            self.put(Record(call_id, seq, self._now(), type, policy, details))
            seq += 1

        return record

    def put(self, record: Record) -> None:
        """One of the two places where every exception is caught: a sink must not break traffic."""
        self.accepted += 1
        for sink in self.sinks:
            try:
                sink.put(record)
            except Exception as error:  # noqa: BLE001
                self._drop(sink, error)

    def _drop(self, sink: Sink, error: Exception) -> None:
        key = (type(sink).__name__, type(error).__name__)
        self.dropped[key] += 1
        if self.dropped[key].bit_count() == 1:  # 1, 2, 4, 8, ...: a flood of failures is no flood of log lines
            logger.warning("sink %s drops records (%d so far): %s", key[0], self.dropped[key], error)

    def ledger(self) -> Mapping[str, int]:
        return {"accepted": self.accepted, "dropped": sum(self.dropped.values())}
