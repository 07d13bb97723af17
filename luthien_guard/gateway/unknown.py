"""Paths that the guard does not know. Whether they go on is the deployer's decision; the default is no."""

from __future__ import annotations

import logging
from typing import Final

from luthien_guard.asgi.types import Receive, Scope, Send
from luthien_guard.config.settings import ServerSettings
from luthien_guard.gateway.admission import wire_format_of
from luthien_guard.gateway.metrics import Metrics
from luthien_guard.gateway.relay import Relay, answer_error
from luthien_guard.gateway.upstreams import Upstreams
from luthien_guard.guard import Guard

__all__ = ["UnknownPath"]

logger = logging.getLogger("luthien_guard")

_SAFE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_-.:")


class UnknownPath:
    """`deny` answers 403; `pass` relays unseen; `observe` relays and says so in the log."""

    def __init__(self, guard: Guard, upstreams: Upstreams, server: ServerSettings, metrics: Metrics) -> None:
        self._mode = server.unknown_paths
        self._metrics = metrics
        self._relays = {
            name: Relay(name, upstreams, guard.limits, metrics, redact=guard.redactor, unseen=True)
            for name in guard.formats
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        wire_format = _spoken(scope)
        if self._mode == "deny" or not _is_plain(path):
            self._metrics.refused("path_denied")
            message = "this path is not guarded, and so not served: see server.unknown_paths"
            await answer_error(send, wire_format, 403, "path_denied", message)
            return
        if self._mode == "observe":
            logger.warning("unguarded: %s %s", scope["method"], path)
        await self._relays[wire_format](scope, receive, send)


def _spoken(scope: Scope) -> str:
    if any(name == b"anthropic-version" for name, _ in scope["headers"]):
        return "anthropic.messages"
    return wire_format_of(scope["path"])


def _is_plain(path: str) -> bool:
    """Nothing that one reader takes for another path than the next one does."""
    return _SAFE.issuperset(path) and not any(part in ("", ".", "..") for part in path.split("/")[1:])
