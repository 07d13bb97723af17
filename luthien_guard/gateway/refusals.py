"""Records of what was turned away at the door: enough to see who was refused what, never so much that somebody without
a key fills the store."""

from __future__ import annotations

from typing import Final

from luthien_guard.asgi.lifespan import Start
from luthien_guard.asgi.routes import Routes
from luthien_guard.asgi.types import Headers, Scope
from luthien_guard.errors import SinkError
from luthien_guard.gateway.auth import Refusal
from luthien_guard.gateway.bounded import Bounded
from luthien_guard.gateway.metrics import Metrics
from luthien_guard.guard import Guard

__all__ = ["Refusals"]

_PATH: Final = 256  # characters of a path that a stranger wrote


class Refusals:
    """Of each kind (`Refusal.code`) 60 at once and then one every ten seconds, per worker. The others are counted, and
    the next one that is recorded says how many they were."""

    def __init__(self, guard: Guard, metrics: Metrics) -> None:
        self._guard = guard
        self._metrics = metrics
        self._routes = Routes(guard.formats)
        self._start = Start(guard)
        self._kinds: dict[str, Bounded] = {}

    async def note(self, scope: Scope, headers: Headers, refusal: Refusal) -> str | None:
        """The id of the exchange under which it is recorded; None where it is not, or where the path is none of a
        model's."""
        self._metrics.refused(refusal.code)
        route = self._routes.match(scope)
        if route is None:
            return None
        now = self._guard.clock()
        kind = self._kinds.setdefault(refusal.code, Bounded(now))
        if not kind.has_room(now) or not await self._can_store():
            kind.passed_over += 1
            self._metrics.unrecorded()
            return None
        metadata = self._guard.callers.metadata(headers, scope["path"][:_PATH])
        reason = refusal.message + kind.taken()
        self._guard.plane.reject(metadata, route.wire_format, refusal.status, refusal.code, reason)
        return metadata.call_id

    async def _can_store(self) -> bool:
        """A mounted application has no lifespan, and this may be its first request."""
        try:
            await self._start()
        except SinkError:
            return False
        return True
