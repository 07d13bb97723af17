"""Requests out of shared buckets, so that what asks often is asked for seldom."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from luthien_guard.gateway.shared.pace import MICRO, Pace
from luthien_guard.gateway.shared.reach import Reach
from luthien_guard.gateway.shared.service import Shared
from luthien_guard.gateway.shared.together import Together

__all__ = ["Buckets"]

_MANY: Final = 10_000  # buckets that are remembered


class Buckets:
    """The buckets of one service. While a question about one is under way, what else is asked of it waits, and is one
    question too; a bucket that is empty is not asked before there is something in it again. `clock`: monotonic seconds."""

    def __init__(self, shared: Shared, reach: Reach, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared = shared
        self._reach = reach
        self._clock = clock
        self._known: OrderedDict[tuple[str, Pace], _Bucket] = OrderedDict()

    async def take(self, name: str, pace: Pace) -> float:
        """Takes one request: 0.0, or how many seconds until there is one. Raises Away, or Busy."""
        bucket = self._known.get((name, pace))
        if bucket is None:
            bucket = self._known[name, pace] = _Bucket(self, name, pace)
            if len(self._known) > _MANY:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end((name, pace))
        return bucket.empty_for() or await bucket.together.ask(None)

    async def asked(self, name: str, pace: Pace) -> tuple[int, float]:
        """Microseconds to wait, and when it was asked."""
        began = self._clock()
        wait = await self._reach.ask(lambda: self._shared.take(name, pace))
        return round(wait * MICRO), began

    def now(self) -> float:
        return self._clock()


class _Bucket:
    def __init__(self, buckets: Buckets, name: str, pace: Pace) -> None:
        self.together: Together[None, float] = Together(self._taken)
        self._buckets = buckets
        self._name = name
        self._pace = pace
        self._empty_until = 0.0

    def empty_for(self) -> float:
        """Seconds, as far as is known: nobody can take a request before, so it is not too long."""
        return max(0.0, self._empty_until - self._buckets.now())

    async def _taken(self, wanted: Sequence[None]) -> list[float]:
        """Who came first gets what there is. It can only be less than was thought: another worker takes too."""
        pace, missing, most, short = self._pace, len(wanted), self._pace.most, 0.0
        while missing and most > 0:
            count = min(missing, most)
            wait, began = await self._buckets.asked(self._name, pace.times(count))
            if wait > 0:
                short = (wait - (count - 1) * pace.interval) / MICRO  # until there is one
                self._empty_until = began + short
                most = count - -(-wait // pace.interval)
            else:
                missing -= count
        return [0.0] * (len(wanted) - missing) + [short] * missing
