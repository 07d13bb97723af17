"""The other side of the middleware: a server and client in one, and small applications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio

SSE = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]


@dataclass
class Heard:
    """What the client got."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages[1:])

    @property
    def complete(self) -> bool:
        return bool(self.messages) and not self.messages[-1].get("more_body", True)


class Visit:
    """One HTTP request to an application, message by message."""

    def __init__(
        self,
        app: Any,
        path: str = "/v1/chat/completions",
        body: bytes | list[bytes] = b"{}",
        *,
        method: str = "POST",
        headers: list[tuple[bytes, bytes]] | None = None,
        on_send: Callable[[dict[str, Any]], Any] | None = None,
        **scope: Any,
    ) -> None:
        self.app = app
        self.heard = Heard()
        self.gone = anyio.Event()  # the client hangs up
        self.received = 0
        self._parts = [body] if isinstance(body, bytes) else list(body)
        self._on_send = on_send
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("utf-8", "surrogateescape") if path.isascii() else None,
            "query_string": b"",
            "root_path": "",
            "headers": headers if headers is not None else [(b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "extensions": {},
            "state": {},
            **scope,
        }

    async def receive(self) -> dict[str, Any]:
        self.received += 1
        if self._parts:
            body = self._parts.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._parts)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.heard.messages.append(dict(message))
        if self._on_send is not None:
            result = self._on_send(message)
            if result is not None:
                await result
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.gone.set()  # as servers do

    async def run(self) -> Heard:
        await self.app(self.scope, self.receive, self.send)
        return self.heard


async def visit(app: Any, *args: Any, **kwargs: Any) -> Heard:
    return await Visit(app, *args, **kwargs).run()


class Speaker:
    """An application that says `pieces` and remembers what it was asked."""

    def __init__(
        self,
        *pieces: bytes,
        status: int = 200,
        headers: list[tuple[bytes, bytes]] | None = None,
        end: bool = True,
    ) -> None:
        self.pieces = pieces
        self.status = status
        self.headers = SSE if headers is None else headers
        self.end = end
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.bodies.append(await whole(receive))
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if self.end:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def whole(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
