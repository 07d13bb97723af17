"""Calls an ASGI application in process, message by message: no server, nothing buffered, nothing repaired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

App = Callable[..., Awaitable[None]]


@dataclass
class Reply:
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    finished: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def header(self, name: str) -> str | None:
        return next((value.decode() for key, value in self.headers if key.lower() == name.encode()), None)


async def ask(
    app: App, path: str, body: bytes, *, headers: Sequence[tuple[bytes, bytes]] = (), method: str = "POST"
) -> Reply:
    """One request; the client stays until the application is done. `path`: with its query."""
    reply = Reply()
    path, _, query = path.partition("?")
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await anyio.sleep_forever()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            reply.status, reply.headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            reply.parts.append(message.get("body", b""))
            reply.finished = not message.get("more_body", False)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"content-type", b"application/json"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    await app(scope, receive, send)
    return reply


def replay(body: bytes, *, status: int, content_type: str, cuts: Sequence[int] = ()) -> App:
    """An application that answers with `body`, cut after each of the given lengths."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", content_type.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        at = 0
        for cut in cuts:
            await send({"type": "http.response.body", "body": body[at : at + cut], "more_body": True})
            at += cut
        await send({"type": "http.response.body", "body": body[at:], "more_body": False})

    return app
