"""FastAPI, Starlette, Litestar, Quart and Django behind the middleware, with a real guard."""

from __future__ import annotations

import gzip
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from luthien_guard import ContentChunk, Guard, Policy, hookimpl
from luthien_guard.asgi import GuardMiddleware
from luthien_guard.control_plane.service import Release
from luthien_guard.testing.plane import ScriptedGuard, ScriptedPlane, ScriptedStream
from tests.asgi.frameworks import ASYNCIO_ONLY, BODY, EVENTS, FRAMEWORKS, asked
from tests.asgi.host import Visit, visit

pytestmark = pytest.mark.anyio


#: Every framework on every loop that it runs on.
everywhere = pytest.mark.parametrize(
    ("anyio_backend", "name"),
    [
        (backend, name)
        for name in FRAMEWORKS
        for backend in (["asyncio"] if name in ASYNCIO_ONLY else ["asyncio", "trio"])
    ],
)


HEADERS = [(b"host", b"test"), (b"content-type", b"application/json")]


@everywhere
async def test_a_stream(name: str) -> None:
    framework = FRAMEWORKS[name]()
    guard = ScriptedGuard()
    app = GuardMiddleware(framework, guard=guard)
    heard = await visit(app, body=b'{"stream": true}', headers=[*HEADERS, (b"content-length", b"16")])
    assert heard.status == 200
    assert heard.body == b"".join(EVENTS)
    assert [bool(m.get("more_body")) for m in heard.messages[1:]][-1] is False
    assert guard.scripted.streams[0].context.stream
    assert len(guard.scripted.closed) == 1


@everywhere
async def test_a_body(name: str) -> None:
    framework = FRAMEWORKS[name]()
    guard = ScriptedGuard()
    app = GuardMiddleware(framework, guard=guard)
    heard = await visit(app, body=b'{"stream": false}', headers=[*HEADERS, (b"content-length", b"17")])
    assert (heard.status, heard.body) == (200, BODY)
    assert len(guard.scripted.closed) == 1


class AsksAgain(ScriptedStream):
    """For a stream, after an answer that is none."""

    async def take(self, data: bytes, *, last: bool) -> Release:
        if self.context.stream:
            return await super().take(data, last=last)
        return Release(done=True, retry=b'{"stream": true}')


@everywhere
async def test_a_retry_is_a_request_of_its_own(name: str) -> None:
    """Whatever a framework remembers of the first one."""
    guard = ScriptedGuard(ScriptedPlane(AsksAgain))
    app = GuardMiddleware(FRAMEWORKS[name](), guard=guard)
    seen = Visit(app, body=b'{"stream": false}', headers=[*HEADERS, (b"content-length", b"17")])
    seen.scope["state"]["given"] = "by the server"
    heard = await seen.run()
    assert heard.body == b"".join(EVENTS)
    assert seen.scope["state"]["given"] == "by the server"


class Blocks(ScriptedStream):
    """Ends a stream that has gone on for a while."""

    async def take(self, data: bytes, *, last: bool) -> Release:
        return Release(done=True) if len(asked) > 3 else await super().take(data, last=last)


@everywhere
@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@pytest.mark.parametrize("how", ["blocked", "left"])
async def test_a_stream_that_nobody_gets_any_more_is_not_asked_for_more(
    name: str, how: str, spec: str
) -> None:
    def leave(message: Any) -> None:
        if how == "left" and len(asked) > 3:
            seen.gone.set()

    guard = ScriptedGuard(ScriptedPlane(Blocks if how == "blocked" else ScriptedStream))
    body = b'{"stream": "endless"}'
    seen = Visit(
        GuardMiddleware(FRAMEWORKS[name](), guard=guard),
        body=body,
        headers=[*HEADERS, (b"content-length", b"%d" % len(body))],
        on_send=leave,
        asgi={"version": "3.0", "spec_version": spec},
    )
    asked.clear()
    with anyio.fail_after(20):
        await seen.run()
    so_far = len(asked)
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    assert len(asked) == so_far > 3
    assert len(guard.scripted.closed) == 1


@everywhere
async def test_an_encoded_request(name: str) -> None:
    framework = FRAMEWORKS[name]()
    body = gzip.compress(b'{"stream": true}')
    headers = [*HEADERS, (b"content-encoding", b"gzip"), (b"content-length", b"%d" % len(body))]
    heard = await visit(GuardMiddleware(framework, guard=ScriptedGuard()), body=body, headers=headers)
    assert heard.body == b"".join(EVENTS)


@everywhere
async def test_an_open_route(name: str) -> None:
    framework = FRAMEWORKS[name]()
    guard = ScriptedGuard()
    heard = await visit(
        GuardMiddleware(framework, guard=guard), "/open", b"", method="GET", headers=HEADERS[:1]
    )
    assert (heard.status, heard.body) == (200, b"open")
    assert guard.scripted.requests == []


@everywhere
@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/chat/completions\n", "POST"), ("//v1/chat/completions", "POST"), ("/v1//chat/completions", "POST"),
        ("/v1/chat/completions/", "POST"), ("/v1/chat/completions", "post"), ("/v1/./chat/completions", "POST"),
        ("/v1/chat/completions;x", "POST"), ("\\v1\\chat\\completions", "POST"), ("v1/chat/completions", "POST"),
    ],
)  # fmt: skip
async def test_no_spelling_gets_past(name: str, path: str, method: str) -> None:
    app = GuardMiddleware(FRAMEWORKS[name](), guard=ScriptedGuard())
    heard = await visit(app, path, b'{"stream": true}', method=method, headers=HEADERS)
    assert heard.status == 400
    assert EVENTS[0] not in heard.body


class Louder(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        return chunk.replace(text=chunk.text.upper())


async def test_with_a_real_guard_and_a_policy() -> None:
    event = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": event + b"data: [DONE]\n\n"})

    guard = Guard([Louder()])
    heard = await visit(GuardMiddleware(app, guard=guard), body=b'{"model":"m","messages":[]}')
    assert b'"content":"HI"' in heard.body
    assert heard.headers[b"x-luthien-call-id"].decode() in guard.recent_calls
