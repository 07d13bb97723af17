"""Which policies run on the other workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import uuid4

import anyio

from luthien_guard.errors import SinkError
from luthien_guard.gateway.shared.reach import Reach
from luthien_guard.gateway.shared.service import Shared

__all__ = ["Versions"]

_EVERY: Final = 2.0  # seconds between two announcements
_LIFE: Final = 10.0  # seconds that one counts
_RELOAD: Final = 60.0  # seconds in which all machines get a new file, and load it


class Versions:
    """Says what this worker runs, and hears what the others of its fleet do. `version` gives the version of the policies
    at this moment."""

    def __init__(
        self,
        shared: Shared,
        reach: Reach,
        version: Callable[[], str],
        *,
        fleet: str = "default",
        every: float = _EVERY,
        reload: float = _RELOAD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._reach = reach
        self._version = version
        self._fleet = fleet
        self._worker = uuid4().hex
        self._every = every
        self._reload = reload
        self._clock = clock
        self._said: Mapping[str, str] = {}
        self._differ_since: float | None = None

    @property
    def running(self) -> frozenset[str]:
        """The versions that run now, as far as is known."""
        return frozenset((*self._said.values(), self._version()))

    @property
    def differ(self) -> int:
        """How many versions run for longer than a reload takes; 0 when all workers agree."""
        since = self._differ_since
        return 0 if since is None or self._clock() - since < self._reload else len(self.running)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self.announce()
                await anyio.sleep(self._every)
        finally:
            with anyio.CancelScope(shield=True):
                await self.announce(0.0)

    async def announce(self, seconds: float = _LIFE) -> None:
        """Say it now, for so long. A service that cannot be asked is no failure: nobody is known then."""
        try:
            version = self._version()
            said = await self._reach.ask(
                lambda: self._shared.announce(self._fleet, self._worker, version, seconds)
            )
        except SinkError:
            said = {}
        self._said = {worker: each for worker, each in said.items() if worker != self._worker}
        if len(self.running) == 1:
            self._differ_since = None
        elif self._differ_since is None:
            self._differ_since = self._clock()
