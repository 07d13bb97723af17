"""ASGI's own words, as plain types; and what the middleware needs of a guard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol, TypeAlias

from luthien_guard.callers import Callers
from luthien_guard.control_plane.service import ControlPlaneService
from luthien_guard.limits import Limits
from luthien_guard.wire.format import WireFormat

__all__ = ["ASGIApp", "AppGuard", "Headers", "Message", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = "tuple[tuple[bytes, bytes], ...]"


class AppGuard(Protocol):
    """What the middleware uses of a `Guard`."""

    limits: Limits
    clock: Callable[[], float]
    formats: Mapping[str, WireFormat]
    plane: ControlPlaneService
    callers: Callers

    @property
    def running(self) -> bool:
        """True from its start to its stop, in the process that started it."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
