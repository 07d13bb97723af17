"""WebSockets on guarded routes are turned away: their frames would be traffic that no policy sees."""

from __future__ import annotations

from luthien_guard.asgi.headers import values
from luthien_guard.asgi.types import Headers, Receive, Scope, Send
from luthien_guard.control_plane.service import Answer

__all__ = ["REASON", "deny", "wants_websocket"]

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


def wants_websocket(headers: Headers) -> bool:
    """True for a handshake that came as a plain request: a server without a WebSocket library (uvicorn alone) leaves it
    to the application to refuse. Other upgrades (h2c) are offers that may be passed over."""
    return b"websocket" in b",".join(values(headers, b"upgrade")).lower()
