"""The demo's server: three doors to the same upstream, on loopback."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from luthien_guard.asgi import GuardMiddleware
from luthien_guard.cli.demo.cases import FORBIDDEN, HARMFUL, PATHS, Case
from luthien_guard.cli.demo.upstream import Upstream
from luthien_guard.guard import Guard
from luthien_guard.testing import provider

__all__ = ["Doors", "Visit", "scripted_judge", "serving"]

JUDGE_SECONDS: Final = 0.05  # how long the scripted judge thinks; a real one takes a second


async def scripted_judge(messages: list[dict[str, Any]], *, model: str, **params: Any) -> str:
    """Finds what it was told to find: a model would be asked here."""
    import anyio

    await anyio.sleep(JUDGE_SECONDS)
    harmful = HARMFUL in messages[-1]["content"]
    verdict = {
        "probability": 0.97 if harmful else 0.02,
        "explanation": "deletes data" if harmful else "reads only",
    }
    return json.dumps(verdict)


class Doors:
    """`/bare` is the upstream itself, `/noop` guarded by a policy that does nothing, `/guarded` by three that act."""

    def __init__(self, upstream: Upstream) -> None:
        self.guard = Guard(
            [
                {"use": "default-limits", "config": {"forbidden_words": [FORBIDDEN]}},
                {"use": "tool-call-judge", "config": {"model": "scripted"}},
                {"use": "uppercase-nth-word", "config": {"n": 3}},
            ],
            judge=scripted_judge,
        )
        self.noop = Guard(["noop"])
        self._doors: dict[str, Any] = {
            "/guarded": GuardMiddleware(upstream, guard=self.guard),
            "/noop": GuardMiddleware(upstream, guard=self.noop),
            "/bare": upstream,
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        for prefix, app in self._doors.items():
            if scope.get("path", "").startswith(prefix + "/"):
                await app(scope, receive, send)
                return
        await self._doors["/guarded"](scope, receive, send)


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


@dataclass(frozen=True, slots=True)
class Visit:
    """What a client got: `first` and `last` are the moments of its first and last byte, in seconds; 0 where it got none."""

    status: int
    body: bytes
    call_id: str
    first: float
    last: float


@contextmanager
def serving(app: Any, port: int = 0) -> Generator[int]:
    """Serve `app` on loopback in a thread of its own; gives the port."""
    with provider.serving(app, port=port) as url:
        yield int(url.rpartition(":")[2])


def visit(port: int, door: str, case: Case, run: str) -> Visit:
    """Ask for a case through one of the doors, and read it as it comes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/json", "x-demo-run": run}
    try:
        connection.request("POST", door + PATHS[case.wire_format], json.dumps(case.request), headers)
        response = connection.getresponse()
        parts: list[bytes] = []
        first = last = 0.0
        while part := response.read1(65536):
            last = time.perf_counter()
            first = first or last
            parts.append(part)
        return Visit(
            response.status,
            b"".join(parts),
            response.headers.get("x-luthien-call-id", ""),
            first,
            last,
        )
    finally:
        connection.close()
