"""How often a key may ask: a bucket of requests that refills, one per key for all workers that share a service."""

from __future__ import annotations

import math
from typing import Literal

from luthien_guard.errors import SinkError
from luthien_guard.gateway.auth import Refusal
from luthien_guard.gateway.key import Key
from luthien_guard.gateway.shared.buckets import Buckets
from luthien_guard.gateway.shared.memory import MemoryShared
from luthien_guard.gateway.shared.pace import Pace, pace_of
from luthien_guard.gateway.shared.reach import Away, Reach
from luthien_guard.gateway.shared.service import Shared

__all__ = ["Rates"]


class Rates:
    """Without `shared`, and while it is away, this process counts alone: behind N workers a key then has N buckets.
    `unshared="refuse"`: keys that have a limit are rather refused."""

    def __init__(
        self,
        shared: Shared | None = None,
        reach: Reach | None = None,
        *,
        unshared: Literal["alone", "refuse"] = "alone",
        alone: MemoryShared | None = None,
    ) -> None:
        self._shared = None if shared is None else _buckets(shared, reach)
        self._unshared = unshared
        self._alone = alone or MemoryShared()

    async def refusal(self, key: Key) -> Refusal | None:
        """Takes one request from the key's bucket; 429 when it is empty."""
        limit = key.settings.get("requests_per_minute")
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit < math.inf:
            return None
        try:
            wait = await self._wait(key.id, pace_of(limit))
        except SinkError:
            return Refusal(
                503, "limits_unavailable", "limits cannot be counted at this time", retry_after=1.0
            )
        if wait <= 0:
            return None
        message = f"this key may ask {limit:g} times a minute"
        return Refusal(429, "rate_limit_exceeded", message, retry_after=wait)

    async def _wait(self, bucket: str, pace: Pace) -> float:
        if self._shared is not None:
            try:
                return await self._shared.take(bucket, pace)
            except Away:
                if self._unshared == "refuse":
                    raise
        return await self._alone.take(bucket, pace)


def _buckets(shared: Shared, reach: Reach | None) -> Buckets:
    return Buckets(shared, reach or Reach(shared.place, at_once=shared.at_once))
