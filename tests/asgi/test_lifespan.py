"""The guard starts before the application and stops after it, with or without a lifespan."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import pytest

from luthien_guard.asgi import GuardMiddleware
from luthien_guard.testing.plane import ScriptedGuard
from tests.asgi.host import Speaker, visit

pytestmark = pytest.mark.anyio


class Server:
    """The server's side of a lifespan."""

    def __init__(self) -> None:
        self.incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        self.said: list[str] = []

    async def receive(self) -> Any:
        if not self.incoming:
            await anyio.sleep_forever()
        return self.incoming.pop(0)

    async def send(self, message: Any) -> None:
        self.said.append(message["type"])

    async def run(self, app: Any) -> None:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self.receive, self.send)


async def test_around_the_application_s_own() -> None:
    guard, order = ScriptedGuard(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        order.append(("started", guard.starts, guard.stops))
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        order.append(("stopping", guard.starts, guard.stops))
        await send({"type": "lifespan.shutdown.complete"})

    server = Server()
    await server.run(GuardMiddleware(app, guard=guard))
    assert server.said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert order == [("started", 1, 0), ("stopping", 1, 0)]
    assert (guard.starts, guard.stops) == (1, 1)


@pytest.mark.parametrize("how", ["raises", "returns"])
async def test_for_an_application_that_has_none(how: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if how == "raises":
            raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")

    guard, server = ScriptedGuard(), Server()
    await server.run(GuardMiddleware(app, guard=guard))
    assert server.said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (guard.starts, guard.stops) == (1, 1)


async def test_an_application_that_fails_to_start_is_heard() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})
        raise LookupError("no")

    server = Server()
    with pytest.raises(LookupError):
        await server.run(GuardMiddleware(app, guard=(guard := ScriptedGuard())))
    assert server.said == ["lifespan.startup.failed"]
    assert (guard.starts, guard.stops) == (1, 1)


@pytest.mark.parametrize("how", ["raises", "returns", "is cancelled"])
async def test_an_application_that_does_not_say_that_it_has_stopped(how: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if how == "is cancelled":
            scopes[0].cancel()
            await anyio.sleep_forever()
        if how == "raises":
            raise LookupError("no")

    guard, server = ScriptedGuard(), Server()
    with anyio.CancelScope() as cancelled, contextlib.suppress(LookupError):
        scopes = [cancelled]
        await server.run(GuardMiddleware(app, guard=guard))
    assert (guard.starts, guard.stops) == (1, 1)


async def test_an_application_that_does_not_wait_for_the_end_leaves_the_guard_at_work() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    guard = ScriptedGuard()
    await Server().run(GuardMiddleware(app, guard=guard))
    assert (guard.starts, guard.stops) == (1, 0)


async def test_a_guard_that_cannot_start_stops_the_server() -> None:
    class Broken(ScriptedGuard):
        async def start(self) -> None:
            raise LookupError("no database")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise AssertionError("the application must not start")

    server = Server()
    with pytest.raises(LookupError):
        await server.run(GuardMiddleware(app, guard=Broken()))
    assert server.said == ["lifespan.startup.failed"]


async def test_without_any_lifespan_the_first_request_starts_it_once() -> None:
    guard = ScriptedGuard()
    middleware = GuardMiddleware(Speaker(b"{}"), guard=guard)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(visit, middleware)
    assert guard.starts == 1


async def test_a_guard_that_was_stopped_with_another_application_starts_again() -> None:
    async def no_lifespan(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError

    guard = ScriptedGuard()
    first, second = GuardMiddleware(no_lifespan, guard=guard), GuardMiddleware(Speaker(b"{}"), guard=guard)
    await visit(second)
    await Server().run(first)
    assert not guard.running
    await visit(second)
    assert guard.running


async def test_an_application_that_never_started_the_guard_does_not_stop_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("no lifespan")

    class Silent(Server):
        async def receive(self) -> Any:
            raise OSError("the server has gone")

    guard = ScriptedGuard()
    await guard.start()
    with pytest.raises(OSError, match="has gone"):
        await Silent().run(GuardMiddleware(app, guard=guard))
    assert guard.running


async def test_a_guard_that_cannot_start_serves_nothing() -> None:
    class Broken(ScriptedGuard):
        async def start(self) -> None:
            raise LookupError("no database")

    app = Speaker(b"{}")
    middleware = GuardMiddleware(app, guard=Broken())
    for _ in range(2):
        with pytest.raises(LookupError):
            await visit(middleware)
    assert app.scopes == []
