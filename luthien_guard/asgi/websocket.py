"""WebSockets on guarded routes are turned away: their frames would be traffic that no policy sees."""

from __future__ import annotations

from luthien_guard.asgi.types import Receive, Scope, Send
from luthien_guard.control_plane.service import Answer

__all__ = ["REASON", "deny"]

REASON = "this route does not speak WebSocket; send the request over HTTP"


async def deny(scope: Scope, receive: Receive, send: Send, answer: Answer) -> None:
    """Answer the handshake with `answer` (426: Codex then uses HTTP at once) where the server can; a plain close before
    the accept makes the others answer 403."""
    message = await receive()
    if message["type"] != "websocket.connect":
        return
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": REASON})
        return
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", b"%d" % len(answer.body)),
    ]
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body, "more_body": False})
