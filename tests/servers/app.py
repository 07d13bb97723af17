"""The application that the servers serve. What happened inside is told on the open route /facts."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from typing import Any

import anyio

from luthien_guard import Block, ContentChunk, Guard, GuardMiddleware, Policy, hookimpl

facts: Counter[str] = Counter()
gates: dict[str, anyio.Event] = {}


class NoSecrets(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("secret") if "SECRET" in chunk.text else None


def event(text: str) -> bytes:
    chunk = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def whole(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
    ).encode()


END = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


class Out:
    def __init__(self, send: Any) -> None:
        self._send = send

    async def start(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def say(self, body: bytes, *, end: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": not end})


SSE = (b"content-type", b"text/event-stream")
JSON = (b"content-type", b"application/json")


async def gated(out: Out) -> None:
    """The second event comes when somebody has asked for /go."""
    gates["go"] = anyio.Event()
    await out.start(SSE)
    await out.say(event("first"))
    await gates["go"].wait()
    await out.say(event("second"))
    await out.say(END, end=True)


async def hang(out: Out) -> None:
    await out.start(SSE)
    await out.say(event("first"))
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        facts["cancelled"] += 1
        raise


async def leak(out: Out) -> None:
    await out.start(SSE)
    await out.say(event("fine so far "))
    await out.say(event("the SECRET is out"))
    await out.say(END, end=True)


async def packed(out: Out) -> None:
    """Compressed although nobody may ask for it."""
    await out.start(SSE, (b"content-encoding", b"gzip"))
    await out.say(gzip.compress(event("the SECRET is packed") + END), end=True)


async def body(out: Out) -> None:
    answer = whole("fine")
    await out.start(JSON, (b"content-length", b"%d" % len(answer)))
    await out.say(answer, end=True)


async def short(out: Out) -> None:
    """Less than it promised, and no end."""
    await out.start(SSE, (b"content-length", b"1000"))
    await out.say(event("cut off"))


async def raises(out: Out) -> None:
    await out.start(SSE)
    await out.say(event("about to fail"))
    raise RuntimeError("the host's own")


MODES = {each.__name__: each for each in (gated, hang, leak, packed, body, short, raises)}


async def model(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        facts["websocket"] += 1
        await receive()
        await send({"type": "websocket.close"})
        return
    if scope["type"] != "http":
        raise ValueError("no lifespan here")
    out = Out(send)
    if scope["path"] == "/facts":
        await out.start(JSON)
        await out.say(json.dumps(facts).encode(), end=True)
    elif scope["path"] == "/go":
        gates["go"].set()
        await out.start(JSON)
        await out.say(b"{}", end=True)
    else:
        facts["model called"] += 1
        request = json.loads((await receive())["body"])
        await MODES[request["model"]](out)


app = GuardMiddleware(model, guard=Guard([NoSecrets()]))
