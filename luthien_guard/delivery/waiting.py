"""One task of an event loop that waits for a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from anyio.lowlevel import current_token

__all__ = ["Ticket", "caller"]


def caller() -> Callable[[Callable[[], object]], None]:
    """A function that runs another in the event loop of now, from any thread, without waiting for it."""
    native: Any = current_token().native_token
    run: Callable[[Callable[[], object]], None] = (
        getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    )
    return run


class Ticket:
    """`done` in the loop that made it, `resolve` in the thread."""

    __slots__ = ("_event", "_run")

    def __init__(self, run: Callable[[Callable[[], object]], None]) -> None:
        self._run = run
        self._event = anyio.Event()

    @classmethod
    def here(cls) -> Ticket:
        return cls(caller())

    def resolve(self) -> None:
        try:
            self._run(self._event.set)
        except RuntimeError:  # the loop has ended: nobody waits any more
            pass

    async def done(self, seconds: float) -> bool:
        """False when it took too long."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
            return True
        return False
