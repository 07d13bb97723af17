"""How often: the generic cell rate algorithm in whole microseconds. A bucket is one number, the moment at which it will
be full again; whoever keeps that number decides alike, in Python, in SQL and in Lua."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["MICRO", "Pace", "pace_of", "taken"]

MICRO: Final = 1_000_000
#: Microseconds. With the time of day it is still a number that Lua has exactly: below 2**53.
_LONGEST: Final = 2**51


@dataclass(frozen=True, slots=True)
class Pace:
    """`interval`: microseconds after which one more request may come. `ahead`: how many microseconds of requests may
    come at once, before the last one of a full bucket."""

    interval: int
    ahead: int

    @property
    def most(self) -> int:
        """How many requests a full bucket holds."""
        return self.ahead // self.interval + 1

    def times(self, count: int) -> Pace:
        """Takes so many requests (at most `most`) at once, from the same bucket: all of them, or none and how long until
        all are there."""
        return Pace(self.interval * count, self.ahead - self.interval * (count - 1))


def pace_of(requests: float, seconds: float = 60.0) -> Pace:
    """A bucket of so many requests that refills in so many seconds; a part of one is a whole one, less often. One in a
    microsecond is the most that is counted, one in seventy years the least."""
    requests = min(max(requests, seconds * MICRO / _LONGEST), seconds * MICRO)
    interval = round(seconds * MICRO / requests)
    return Pace(interval, round(interval * (max(requests, 1.0) - 1)))


def taken(full_at: int | None, now: int, pace: Pace) -> tuple[int, int]:
    """Take one request: when the bucket is full next, and how long to wait (0: it was there). Nobody waits longer than
    an empty bucket takes: a clock may have been set back, or the limit changed."""
    full_at = min(max(full_at or now, now), now + pace.ahead + pace.interval)
    wait = full_at - now - pace.ahead
    return (full_at, wait) if wait > 0 else (full_at + pace.interval, 0)
