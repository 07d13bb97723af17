"""The way of most requests: past the router, which tries one pattern after another."""

from __future__ import annotations

from collections.abc import Mapping

from luthien_guard.asgi.types import ASGIApp, Receive, Scope, Send
from luthien_guard.gateway.relay import own_path

__all__ = ["Shortcut"]


class Shortcut:
    """Pure ASGI: POST requests for exactly these paths go straight to their application, all others to `app`."""

    def __init__(self, app: ASGIApp, *, posts: Mapping[str, ASGIApp]) -> None:
        self.app = app
        self._posts = posts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        short = None
        if scope["type"] == "http" and scope["method"] == "POST":
            short = self._posts.get(own_path(scope))
        await (short or self.app)(scope, receive, send)
