"""The middleware in process: CPU added to a chunk and to a request, memory added by an idle open stream.

No sockets and no server: the application's `send` goes through the guard into a `send` that does nothing, so that the
difference to a bare pass-through middleware is the guard's own.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import anyio

from benchmarks.server import variant
from benchmarks.table import interleaved, report
from benchmarks.traffic import DONE, FINISH, REQUEST, chat_chunk

CHUNKS, REQUESTS, STREAMS = 2000, 2000, 200
VARIANTS = [
    "pass-through", "guard, no policy", "guard, noop", "guard, looks at chunks", "guard, reads the text",
    "guard, window of 64 characters", "guard, changes every chunk",
]  # fmt: skip
SCOPE = {
    "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "POST",
    "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions", "query_string": b"", "root_path": "",
    "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9),
    "headers": [
        (b"host", b"x"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(REQUEST)),
        (b"user-agent", b"bench"), (b"accept", b"*/*"),
    ],
}  # fmt: skip
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


class Link:
    """The server's side of one request."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self._body: Any = {"type": "http.request", "body": REQUEST, "more_body": False}

    async def receive(self) -> Any:
        if self._body is not None:
            message, self._body = self._body, None
            return message
        if not self.ended.is_set():  # once the answer is complete servers say so at once
            await self.ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.ended.set()


async def request(app: Any) -> None:
    link = Link()
    await app({**SCOPE, "state": {}}, link.receive, link.send)


def per_chunk(name: str) -> Callable[[], float]:
    messages = [
        {"type": "http.response.body", "body": chat_chunk(number), "more_body": True}
        for number in range(CHUNKS)
    ]
    spent = 0.0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal spent
        await receive()
        await send(START)
        await send(messages[0])
        await send(messages[1])
        began = time.process_time()
        for message in messages:
            await send(message)
        spent = time.process_time() - began
        await send({"type": "http.response.body", "body": FINISH + DONE, "more_body": False})

    guarded = variant(name, app)

    def run() -> float:
        anyio.run(request, guarded, backend_options={"use_uvloop": True})
        return spent / CHUNKS * 1e6

    return run


def per_request(name: str) -> Callable[[], float]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        await send({"type": "http.response.body", "body": FINISH + DONE, "more_body": False})

    guarded = variant(name, app)

    async def many() -> float:
        began = time.process_time()
        for _ in range(REQUESTS):
            await request(guarded)
        return (time.process_time() - began) / REQUESTS * 1e6

    return lambda: anyio.run(many, backend_options={"use_uvloop": True})


def per_stream(name: str) -> Callable[[], float]:
    """KiB that a stream keeps while it is open and nothing happens."""

    async def idle() -> float:
        waiting, go = 0, anyio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal waiting
            await receive()
            await send(START)
            for number in range(3):
                await send({"type": "http.response.body", "body": chat_chunk(number), "more_body": True})
            waiting += 1
            await go.wait()
            await send({"type": "http.response.body", "body": FINISH + DONE, "more_body": False})

        guarded = variant(name, app)
        await _all_waiting(guarded, 3, lambda: waiting >= 3, go)
        waiting, go = 0, anyio.Event()
        return await _all_waiting(guarded, STREAMS, lambda: waiting >= STREAMS, go) / STREAMS / 1024

    return lambda: anyio.run(idle)


async def _all_waiting(app: Any, streams: int, ready: Callable[[], bool], go: anyio.Event) -> float:
    kept = 0
    gc.collect()
    tracemalloc.start()
    async with anyio.create_task_group() as tasks:
        for _ in range(streams):
            tasks.start_soon(request, app)
        while not ready():
            await anyio.lowlevel.checkpoint()
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        go.set()
    return kept


def main() -> None:
    base = "pass-through"
    report(
        "in process, per chunk", "us of CPU", interleaved({n: per_chunk(n) for n in VARIANTS}), baseline=base
    )
    some = [base, "guard, no policy", "guard, noop", "guard, reads the text"]
    report(
        "in process, per request", "us of CPU", interleaved({n: per_request(n) for n in some}), baseline=base
    )
    report(
        "an idle open stream", "KiB", interleaved({n: per_stream(n) for n in some}, rounds=2), baseline=base
    )


if __name__ == "__main__":
    main()
