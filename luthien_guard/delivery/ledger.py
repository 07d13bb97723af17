"""What became of every record that was accepted. The equation always holds:

accepted == stored + spooled + in_memory + dropped
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping

from luthien_guard.forks import told_of_forks
from luthien_guard.store import Written

__all__ = ["Ledger"]

logger = logging.getLogger("luthien_guard")


class Ledger:
    """Counters that change together, from the traffic's thread and from the writers'."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        told_of_forks(self, Ledger._after_fork)
        self.accepted = 0
        self.bytes = 0  # of content in memory, about
        self.stored = 0
        self.spooled = 0
        self.dropped: Counter[str] = Counter()  # by reason
        self.degraded = 0  # content that was kept as hash and length only; counted in `stored` too
        self.conflicts = 0  # the key was taken by another content: an alarm

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def accept(self, count: int = 1, *, bytes: int = 0) -> None:
        with self._lock:
            self.accepted += count
            self.bytes += bytes

    def wrote(
        self,
        count: int,
        written: Written,
        *,
        into_spool: bool = False,
        from_spool: bool = False,
        bytes: int = 0,
    ) -> None:
        """A group of `count` records went into the store or the spool, except for what `written` says otherwise."""
        lost = {
            "conflict": len(written.conflicts),
            "poison": written.quarantined,
            "pruned": written.pruned,
        }
        with self._lock:
            self.bytes -= bytes
            kept = count - sum(lost.values())
            self.stored += (0 if into_spool else kept) - written.evicted
            lost["evicted"] = written.evicted
            self.spooled += (kept if into_spool else 0) - (count if from_spool else 0)
            self.conflicts += len(written.conflicts)
            self.dropped.update({reason: number for reason, number in lost.items() if number})
        if written.conflicts:
            logger.error("%d records have a number that is taken by another content", len(written.conflicts))

    def found(self, count: int) -> None:
        """So many are in the spool: what is not from here was left by an earlier process."""
        with self._lock:
            self.accepted += count - self.spooled
            self.spooled = count

    def damaged(self, count: int) -> None:
        """So many went with a damaged spool."""
        if count:
            with self._lock:
                self.spooled -= count
                self.dropped["damaged"] += count

    def drop(self, reason: str, count: int = 1) -> None:
        with self._lock:
            self.dropped[reason] += count

    def degrade(self) -> None:
        with self._lock:
            self.degraded += 1

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
