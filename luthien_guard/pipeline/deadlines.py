"""When an exchange has to be looked at again, and whether it has run out of time. Decides; never waits.

One watcher per exchange sleeps until `wake_at()` and asks `expired()`. Marks are plain attributes because they are
set for every chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from luthien_guard.limits import Limits

__all__ = ["Deadlines", "Expiry", "total_expiry"]

#: Seconds between two looks while a hook is waiting for somebody: how late an overdue hook may be noticed.
POLL = 0.5


@dataclass(frozen=True, slots=True)
class Expiry:
    """Why the exchange ends here: `status` before the first byte, `code` and `message` in-band after it."""

    status: int
    code: str
    message: str


def total_expiry(limits: Limits) -> Expiry:
    message = f"the exchange took longer than {limits.total_timeout:g} seconds"
    return Expiry(504, "total_timeout", message)


class Deadlines:
    """Idle, total, hooks and keep-alives of one exchange, on one clock (seconds)."""

    __slots__ = (
        "_limits",
        "_now",
        "_soon",
        "_total",
        "broken",
        "heard",
        "holding",
        "told",
        "upstream",
        "waiting",
    )

    def __init__(self, now: Callable[[], float], limits: Limits, *, total: float | None = None) -> None:
        """`total`: when all must be over; by default so long from now as the limits allow."""
        self._now = now
        self._limits = limits
        self._soon = min(POLL, limits.keepalive_interval, limits.idle_timeout)
        self._total = now() + limits.total_timeout if total is None else total
        self.heard = 0.0  # when upstream spoke last; 0.0: not yet
        self.told = now()  # when the client got bytes last
        self.upstream = False  # True: it is upstream's turn to speak
        self.holding = False  # True: bytes are kept back, so the client may need a sign of life
        self.broken = False  # something failed that the watcher has to see to at once
        self.waiting = 0  # hooks (or settlements) that wait for somebody now

    def ending(self) -> None:
        """The end is on its way to the client: only the total counts."""
        self.holding = self.upstream = False

    def close(self) -> None:
        """The answer is complete: nothing is late any more."""
        self.ending()
        self._total = float("inf")
        self.waiting = 0

    def may_come_before(self, when: float) -> bool:
        """Something can have happened before `when` that was not to be known when that was planned. For every chunk, so
        not exact: `wake_at` is."""
        return self.broken or self._now() + self._soon < when

    def wake_at(self) -> float:
        """The next moment at which something can have happened, if nothing changes before."""
        if self._total == float("inf"):
            return self._total
        if self.broken:
            return self._now()
        limits = self._limits
        # No later than either: nobody wakes the watcher when upstream has said its first word.
        wake = min(self._total, self._now() + min(limits.keepalive_interval, limits.idle_timeout))
        if self.waiting:
            wake = min(wake, self._now() + POLL)
        if self.holding:
            wake = min(wake, self.told + limits.keepalive_interval)
        if self.upstream and self.heard:
            wake = min(wake, self.heard + limits.idle_timeout)
        return wake

    def expired(self, overdue: str | None) -> Expiry | None:
        """The deadline that has passed, if one has; `overdue` is what the stream says of its hooks."""
        now, limits = self._now(), self._limits
        if overdue is not None:
            return Expiry(504, "policy_timeout", f"a policy took too long: {overdue}")
        if now >= self._total:
            return total_expiry(limits)
        # Before its first word a model may think for as long as the total allows: unstreamed answers do.
        if self.upstream and self.heard and now >= self.heard + limits.idle_timeout:
            return Expiry(504, "idle_timeout", f"upstream was silent for {limits.idle_timeout:g} seconds")
        return None

    @property
    def keepalive_due(self) -> bool:
        """Bytes are held and the client has heard nothing for an interval."""
        return self.holding and self._now() >= self.told + self._limits.keepalive_interval
