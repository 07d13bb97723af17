"""What the host's own handlers may know of the exchange that they are in."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from luthien_guard.asgi.types import AppGuard
from luthien_guard.control_plane.service import RequestDecision
from luthien_guard.exchange import RequestMetadata

__all__ = ["ExchangeHandle", "current", "current_exchange"]


@dataclass(slots=True)
class ExchangeHandle:
    """The guarded exchange, for the application: `scope["state"]["luthien"]` or `current_exchange()`.
    `decision` is what was decided about the request as it came; a retry serves another body. `open` until its answer has
    ended."""

    call_id: str
    wire_format: str
    metadata: RequestMetadata
    guard: AppGuard = field(repr=False)
    decision: RequestDecision | None = None
    open: bool = True

    def covers(self, guard: AppGuard, wire_format: str) -> bool:
        """That guard has this very request in hand: nobody needs to do it again further in."""
        return self.open and self.guard is guard and self.wire_format == wire_format

    def record(self, event: str, /, **details: Any) -> None:
        """Put a fact of the application's own into the exchange's record. Never blocks, never raises; from any thread.
        Details called `type`, `event` or `policy` get a `_` behind their names. The record ends with the answer: what is
        said later (in a background task) has no place in it."""
        self.guard.plane.record(self.call_id, event, details)


current: ContextVar[ExchangeHandle | None] = ContextVar("luthien_guard_exchange", default=None)


def current_exchange() -> ExchangeHandle | None:
    """The exchange that the calling code serves; None outside of one."""
    return current.get()
