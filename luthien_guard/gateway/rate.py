"""How often a key may ask: a bucket of requests that refills, per key and per worker."""

from __future__ import annotations

import time
from collections.abc import Callable

from luthien_guard.gateway.auth import Refusal
from luthien_guard.gateway.keys import Key

__all__ = ["Rates"]


class Rates:
    """Counts in this process alone: behind N workers, a key has N buckets."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # id -> (requests left, when that was counted)

    def refusal(self, key: Key) -> Refusal | None:
        """Takes one request from the key's bucket; 429 when it is empty."""
        limit = key.settings.get("requests_per_minute")
        if not isinstance(limit, (int, float)) or limit <= 0:
            return None
        now = self._clock()
        left, at = self._buckets.get(key.id, (float(limit), now))
        left = min(float(limit), left + (now - at) * limit / 60)
        if left < 1:
            wait = (1 - left) * 60 / limit
            return Refusal(
                429, "rate_limit_exceeded", f"this key may ask {limit:g} times a minute", retry_after=wait
            )
        self._buckets[key.id] = (left - 1, now)
        return None
