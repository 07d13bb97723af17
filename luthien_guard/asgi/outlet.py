"""Between an exchange and one attempt at its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from luthien_guard.asgi.client import Client
from luthien_guard.asgi.types import Message
from luthien_guard.control_plane.service import Answer, ControlPlaneService
from luthien_guard.limits import Limits
from luthien_guard.pipeline import Deadlines, Expiry, Lanes

__all__ = ["Attempt", "Outlet"]


@dataclass(slots=True)
class Outlet:
    """What a response needs of the exchange that it belongs to."""

    call_id: str
    wire_format: str
    plane: ControlPlaneService
    client: Client
    now: Callable[[], float]
    limits: Limits
    deadlines: Deadlines
    spawn: Callable[..., object]
    wake: Callable[[], None]
    #: Cancels the application.
    cancel: Callable[[], None]
    #: Called once the last byte of the answer is out; with the outcome where the plane cannot know it.
    finished: Callable[..., Awaitable[None]]
    #: An error in the wire format, when the plane cannot be asked any more.
    error: Callable[[Expiry], Answer]
    head: bool = False  # the request's method was HEAD
    raises: bool = False  # ASGI >= 2.4 promises applications an OSError after a disconnect


class Attempt(Protocol):
    """One run of the application, seen from its exchange."""

    lanes: Lanes | None
    retry: bytes | None
    began: bool  # the application has sent its start
    finished: bool  # and the end of its body

    def send(self, message: Message) -> Awaitable[None]: ...

    async def fail(self, expiry: Expiry) -> None: ...
