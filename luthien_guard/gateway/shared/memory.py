"""One process: what it needs is at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from luthien_guard.gateway.shared.pace import MICRO, Pace, taken

__all__ = ["MemoryShared"]

_MANY: Final = 10_000  # buckets, after which those that are full again are forgotten


class MemoryShared:
    """Implements `Shared` for the workers of one process. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.place = "this process"
        self.at_once = 1
        self._clock = clock
        self._full_at: dict[str, int] = {}
        self._said: dict[str, dict[str, tuple[str, float]]] = {}  # fleet -> worker -> version, until

    async def take(self, bucket: str, pace: Pace) -> float:
        now = round(self._clock() * MICRO)
        if bucket not in self._full_at and len(self._full_at) >= _MANY:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        self._full_at[bucket], wait = taken(self._full_at.get(bucket), now, pace)
        return wait / MICRO

    async def announce(self, fleet: str, worker: str, version: str, seconds: float) -> Mapping[str, str]:
        now = self._clock()
        said = {**self._said.get(fleet, {}), worker: (version, now + seconds)}
        self._said[fleet] = {name: each for name, each in said.items() if each[1] > now}
        return {name: each[0] for name, each in self._said[fleet].items()}

    def close(self) -> None:
        pass
