"""What the workers of one gateway share, as it is configured."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

import anyio
from anyio import to_thread

from luthien_guard.config.load import Loaded
from luthien_guard.errors import SinkError
from luthien_guard.gateway.key import Keys
from luthien_guard.gateway.rate import Rates
from luthien_guard.gateway.shared.keys import SharedKeys
from luthien_guard.gateway.shared.reach import Reach
from luthien_guard.gateway.shared.service import KeyTable, Shared
from luthien_guard.gateway.shared.urls import fleet_of, keys_of, located, open_shared, shared_url
from luthien_guard.gateway.shared.versions import Versions

__all__ = ["Sharing"]

_EVERY: Final = 2.0  # seconds between two looks at the database of the keys


class Sharing:
    """One per worker. Nobody is asked before there is something to ask. `version` gives the version of this worker's
    policies. Raises ConfigError that names file and line."""

    def __init__(
        self, loaded: Loaded, version: Callable[[], str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        config = loaded.config
        place, url = shared_url(config)
        self.shared = located(loaded, place, lambda: open_shared(url))
        self._url = url
        self._asks_for_keys = config.auth.mode in ("client_key", "both")
        self._reach = _reach(self.shared, config.auth.shared_timeout)
        self.keys: Keys = located(loaded, ("auth", "keys"), lambda: keys_of(config.auth, self._opened))
        self.rates = Rates(self.shared, self._reach, unshared=config.auth.unshared)
        self.versions = (
            None
            if self.shared is None
            else Versions(self.shared, self._reach, version, fleet=fleet_of(loaded), clock=clock)
        )

    def reasons(self) -> Iterator[str]:
        """What is wrong now. Anybody may ask: which service it is stands in the log."""
        if self._reach.away:
            yield "limits: what workers share is away"
        if isinstance(self.keys, SharedKeys) and self.keys.reach.away:
            yield "keys: their database is away"
        if self.versions is not None and self.versions.differ:
            yield f"policies: {self.versions.differ} versions run"

    async def run(self) -> None:
        """Beside the traffic, until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                if self._asks_for_keys and isinstance(self.keys, SharedKeys):
                    tasks.start_soon(self._watch, self.keys)
                if self.versions is not None:
                    tasks.start_soon(self.versions.run)
                await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._close)

    # ------------------------------------------------------------------------------------------------------------------

    def _opened(self, url: str) -> KeyTable | None:
        """One connection is enough for both."""
        return self.shared if url == self._url and isinstance(self.shared, KeyTable) else None

    async def _watch(self, keys: SharedKeys) -> None:
        """The first request does not wait for a connection, and `/health` knows also while nobody asks."""
        while True:
            with contextlib.suppress(SinkError):
                await keys.find("")
            await anyio.sleep(_EVERY)

    def _close(self) -> None:
        self.keys.close()
        if self.shared is not None:
            self.shared.close()


def _reach(shared: Shared | None, deadline: float) -> Reach:
    return Reach("") if shared is None else Reach(shared.place, deadline=deadline, at_once=shared.at_once)
