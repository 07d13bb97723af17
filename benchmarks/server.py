"""The servers that `benchmarks.sockets` measures: `python -m benchmarks.server VARIANT PORT CHUNKS PAUSE`."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from benchmarks.traffic import DONE, FINISH, Changes, LooksAtChunks, Reads, Window, chat_chunk
from luthien_guard import Guard, GuardMiddleware, Policy, hookimpl
from luthien_guard.events import ContentChunk


class Waits(Policy):
    """Says that it asks others, and answers at once: the price of the stream lane."""

    waits = True
    channels = frozenset({"content"})

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> None:
        await anyio.lowlevel.checkpoint()


def upstream(chunks: int, pause: float) -> Any:
    """A Starlette application that streams `chunks` chunks, one a message; with a pause each carries the moment at which
    it was sent."""
    ready = [chat_chunk(number) for number in range(chunks)]

    async def answer() -> AsyncIterator[bytes]:
        due = anyio.current_time()
        for raw in ready:
            if pause:
                # As providers do: a server that has stopped for a while does not make them all speak at the same time.
                due += pause
                await anyio.sleep(max(0.0, due - anyio.current_time()))
                raw = raw.replace(b'" word', b'" %d word' % time.monotonic_ns())
            yield raw
        yield FINISH + DONE

    async def endpoint(request: Request) -> StreamingResponse:
        await request.body()
        return StreamingResponse(answer(), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", endpoint, methods=["POST"])])


def variant(name: str, app: Any) -> Any:
    if name == "bare":
        return app
    if name == "pass-through":
        return pass_through(app)
    if name == "BaseHTTPMiddleware":
        return base_http(app)
    policies: dict[str, list[Any]] = {
        "guard, no policy": [],
        "guard, noop": ["noop"],
        "guard, looks at chunks": [LooksAtChunks()],
        "guard, reads the text": [Reads()],
        "guard, window of 64 characters": [Window()],
        "guard, changes every chunk": [Changes()],
        "guard, one that waits": [Waits()],
    }
    return GuardMiddleware(app, guard=Guard(policies[name]))


def pass_through(app: Any) -> Any:
    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            await send(message)

        await app(scope, receive, sent)

    return middleware


def base_http(app: Any) -> Any:
    from starlette.middleware.base import BaseHTTPMiddleware

    async def dispatch(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return BaseHTTPMiddleware(app, dispatch=dispatch)


if __name__ == "__main__":
    name, port, chunks, pause = sys.argv[1:]
    app = variant(name, upstream(int(chunks), float(pause)))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(port),
        log_level="error",
        http="httptools",
        loop="uvloop",
        lifespan="off",
    )
