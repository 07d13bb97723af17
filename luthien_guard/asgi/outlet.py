"""Between an exchange and one attempt at its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from luthien_guard.asgi.client import Client
from luthien_guard.asgi.types import Send
from luthien_guard.control_plane.service import ControlPlaneService
from luthien_guard.exchange import Outcome
from luthien_guard.limits import Limits
from luthien_guard.pipeline import Beside, Deadlines, Expiry, Lanes

__all__ = ["Attempt", "Outlet", "WatchedOutlet"]


class Outlet(Protocol):
    """What an attempt needs of the exchange that it belongs to."""

    @property
    def call_id(self) -> str: ...

    @property
    def wire_format(self) -> str: ...

    @property
    def client(self) -> Client: ...

    @property
    def raises(self) -> bool:
        """ASGI >= 2.4 promises applications an OSError after a disconnect."""
        ...

    async def close(self, outcome: Outcome | None = None) -> None:
        """The last byte of the answer is out; `outcome` is what the plane cannot know."""
        ...

    async def cut(self, expiry: Expiry, last: bytes = b"") -> None:
        """End the answer without asking anybody: with `last` where it has begun, with an error in the wire format where
        not."""
        ...


class WatchedOutlet(Outlet, Protocol):
    """What it needs to be decided piece by piece."""

    plane: ControlPlaneService
    limits: Limits
    now: Callable[[], float]
    deadlines: Deadlines
    beside: Beside  # the application

    @property
    def enforces(self) -> bool:
        """What is decided about the answer has an effect on it."""
        ...

    def wake(self) -> None:
        """There may be a deadline that was not known before."""
        ...

    def cancel(self) -> None:
        """Cancel the application."""
        ...


class Attempt(Protocol):
    """One run of the application, seen from its exchange."""

    lanes: Lanes | None
    retry: bytes | None
    began: bool  # the application has sent its start
    finished: bool  # and the end of its body

    @property
    def send(self) -> Send: ...

    async def fail(self, expiry: Expiry) -> None: ...
