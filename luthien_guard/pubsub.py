"""What a pub/sub sink is: it tells whoever watches that something was stored, by id; what it was is asked of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["GAP", "Notice", "PubSub"]

#: The `event_type` of a notice that says: some were lost here, read the store if they matter.
GAP: Final = "gap"


@dataclass(frozen=True, slots=True)
class Notice:
    """One stored record. `id` is where to resume after it (opaque, of this hub); `at` is Unix seconds."""

    id: str
    call_id: str
    seq: int
    at: float
    event_type: str
    policy: str | None = None


class PubSub(Protocol):
    """A hub. `open`, `publish` and `close` are blocking and called from the delivery's thread; failures raise
    SinkError, and the delivery counts them: notices may be lost, records never are."""

    def open(self) -> None:
        """Connect, to publish. Raises SinkError that says what is wrong."""
        ...

    def publish(self, notices: Sequence[Notice]) -> None:
        """Tell the subscribers; `Notice.id` is set by the hub."""
        ...

    def subscribe(self, *, after: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Notice]]:
        """Notices from now on, or after the one with the id `after` where the hub still knows it (else a GAP comes
        first). On asyncio and on trio; a slow subscriber gets a GAP, and never slows anybody else. Needs no `open`: that
        is for who publishes. Entering and iterating raise SinkError when the broker cannot be reached (any more);
        whoever then subscribes again `after` the last id hears the rest, or of a gap."""
        ...

    def close(self) -> None:
        """Subscriptions of this object end. May come twice, and without `open`."""
        ...
