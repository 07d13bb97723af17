"""R08: WebSockets on guarded routes are turned away."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from luthien_guard.asgi import GuardMiddleware
from luthien_guard.testing.plane import ScriptedGuard

pytestmark = pytest.mark.anyio


async def handshake(
    path: str, extensions: dict[str, Any], first: str = "websocket.connect"
) -> tuple[list[Any], int]:
    """(what the server was told, how often the application ran)"""
    told: list[Any] = []
    ran = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal ran
        ran += 1

    async def receive() -> Any:
        return {"type": first}

    async def send(message: Any) -> None:
        told.append(message)

    scope = {"type": "websocket", "path": path, "headers": [], "root_path": "", "extensions": extensions}
    await GuardMiddleware(app, guard=ScriptedGuard())(scope, receive, send)
    return told, ran


@pytest.mark.parametrize(
    "path", ["/v1/responses", "/v1/chat/completions", "//v1/responses", "/v1/responses/x"]
)
async def test_426_where_the_server_can_say_so(path: str) -> None:
    told, ran = await handshake(path, {"websocket.http.response": {}})
    assert ran == 0
    assert [m["type"] for m in told] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert told[0]["status"] == 426
    assert told[1]["body"] == b'{"error":{"code":"websocket_not_guarded"}}'


async def test_a_close_before_the_accept_elsewhere() -> None:
    told, ran = await handshake("/v1/responses", {})
    assert ran == 0
    assert [(m["type"], m["code"]) for m in told] == [("websocket.close", 1008)]


async def test_a_client_that_left_is_not_answered() -> None:
    assert await handshake("/v1/responses", {}, "websocket.disconnect") == ([], 0)


async def test_other_websockets_pass() -> None:
    told, ran = await handshake("/ws/chat", {})
    assert (told, ran) == ([], 1)


TWICE = [(b"content-type", b"text/plain"), (b"content-type", b"application/json")]


@pytest.mark.parametrize("further", [[], TWICE], ids=["alone", "with what is malformed"])
@pytest.mark.parametrize(
    ("upgrade", "refused"), [(b"websocket", True), (b"WebSocket", True), (b"h2c", False)]
)
async def test_a_handshake_that_comes_as_a_plain_request(
    upgrade: bytes, refused: bool, further: list[tuple[bytes, bytes]]
) -> None:
    """uvicorn without a WebSocket library leaves it to the application. Whatever else is wrong with it: 426 is what tells
    its client to use HTTP."""
    told: list[Any] = []
    ran: list[str] = []
    asked: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ran.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})

    async def receive() -> Any:
        if not asked:
            asked.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        return await anyio.sleep_forever()

    async def send(message: Any) -> None:
        told.append(message)

    headers = [(b"connection", b"upgrade"), (b"upgrade", upgrade), *further]
    scope = {"type": "http", "method": "GET", "path": "/v1/responses", "headers": headers, "root_path": ""}
    await GuardMiddleware(app, guard=ScriptedGuard())(scope, receive, send)
    otherwise = (400, False) if further else (200, True)
    assert (told[0]["status"], bool(ran)) == ((426, False) if refused else otherwise)
