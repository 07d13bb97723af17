"""An ASGI application that answers with the demo's cases, at their pace: what a host application would be."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from luthien_guard.cli.demo.cases import PATHS, Case

__all__ = ["Upstream"]

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


@dataclass
class Upstream:
    """Picks the case by the request's model, path and `stream`; notes when it began and ended each run."""

    cases: Iterable[Case]
    pace: float  # seconds between two parts
    times: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    def __post_init__(self) -> None:
        formats = {path: wire_format for wire_format, path in PATHS.items()}
        self._formats = formats
        self._found = {(case.wire_format, case.model, case.stream): case for case in self.cases}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = json.loads(await _body(receive))
        path = next((known for known in self._formats if scope["path"].endswith(known)), "")
        key = (self._formats.get(path, ""), str(request.get("model")), bool(request.get("stream")))
        case = self._found.get(key)
        if case is None:
            await _answer(send, 404, b'{"error":{"message":"no such case"}}')
            return
        await self._play(case, _header(scope, b"x-demo-run"), send)

    async def _play(self, case: Case, run: str, send: Send) -> None:
        kind = b"text/event-stream" if case.stream else b"application/json"
        start = {"type": "http.response.start", "status": case.status, "headers": [(b"content-type", kind)]}
        await send(start)
        began = time.perf_counter()
        for number, part in enumerate(case.parts):
            if number:
                await anyio.sleep(self.pace)
            # noted before it is sent: a guard that has heard enough does not let us come back
            self.times[run] = (began, time.perf_counter())
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _header(scope: Message, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
