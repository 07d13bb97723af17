"""What became of every record that was accepted. The equation always holds:

accepted == stored + spooled + in_memory + dropped
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

__all__ = ["Ledger"]


class Ledger:
    """Counters that change together, from the traffic's thread and from the writers'."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.accepted = 0
        self.stored = 0
        self.spooled = 0
        self.dropped: Counter[str] = Counter()  # by reason
        self.degraded = 0  # content that was kept as hash and length only; counted in `stored` too
        self.conflicts = 0  # the key was taken by another content: an alarm

    def accept(self, count: int = 1) -> None:
        with self._lock:
            self.accepted += count

    def store(self, count: int, *, from_spool: bool = False) -> None:
        with self._lock:
            self.stored += count
            if from_spool:
                self.spooled -= count

    def spool(self, count: int) -> None:
        with self._lock:
            self.spooled += count

    def drop(self, reason: str, count: int = 1, *, from_spool: bool = False) -> None:
        with self._lock:
            self.dropped[reason] += count
            if from_spool:
                self.spooled -= count

    def degrade(self) -> None:
        with self._lock:
            self.degraded += 1

    def conflict(self, count: int) -> None:
        with self._lock:
            self.conflicts += count

    def snapshot(self) -> Mapping[str, int]:
        """`in_memory` is what is neither stored nor spooled nor dropped yet."""
        with self._lock:
            dropped = self.dropped.total()
            counts = {
                "accepted": self.accepted,
                "stored": self.stored,
                "spooled": self.spooled,
                "in_memory": self.accepted - self.stored - self.spooled - dropped,
                "dropped": dropped,
                "degraded": self.degraded,
                "conflicts": self.conflicts,
            }
            return counts | {f"dropped.{reason}": count for reason, count in self.dropped.items()}
