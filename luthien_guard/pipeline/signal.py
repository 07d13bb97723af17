"""An event that takes nothing as long as nobody waits for it: in most exchanges nobody does."""

from __future__ import annotations

import anyio

__all__ = ["Signal"]


class Signal:
    """Set once. anyio's own event finds out which loop there is, and makes one of its kind."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._event: anyio.Event | None = None  # for who waits
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        if not self._is_set:
            self._event = self._event or anyio.Event()
            await self._event.wait()
