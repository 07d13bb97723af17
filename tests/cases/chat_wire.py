"""Chat chunks by hand, and one way through the guard for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthien_guard import Guard
from luthien_guard.control_plane.service import StreamingContext
from luthien_guard.exchange import Outcome, RequestMetadata, new_call_id
from luthien_guard.testing.reading import read
from luthien_guard.testing.transcript import Transcript, frames_of

REQUEST = b'{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"bash"}}]}'
DONE = b"data: [DONE]\n\n"


def chunk(
    delta: dict[str, Any] | None = None, *, finish: str | None = None, index: int = 0, **more: Any
) -> bytes:
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": finish}]
    data = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
        **more,
    }
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def call(index: int | None, id: str | None, name: str | None, arguments: str, **more: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    entry: dict[str, Any] = {"type": "function", "function": function, **more}
    entry |= {key: value for key, value in (("index", index), ("id", id)) if value is not None}
    return entry


@dataclass
class Sent:
    body: bytes
    outcome: Outcome
    left: Transcript

    @property
    def chunks(self) -> list[Any]:
        return [frame.data for frame in frames_of(self.body)[0]]


async def through(
    policies: Sequence[Any] | Guard,
    body: bytes,
    *,
    stream: bool = True,
    format: str = "openai.chat",
    step: int = 0,
    n: int = 1,
) -> Sent:
    """The bytes through a guard, whole or cut into steps; verdicts that wait are settled at once. `n`: choices that were
    asked for."""
    guard = policies if isinstance(policies, Guard) else Guard(policies)
    call_id = new_call_id()
    request = REQUEST if n == 1 else json.dumps({**json.loads(REQUEST), "n": n}).encode()
    await guard.plane.decide_request(RequestMetadata(call_id, 0.0), format, request)
    guarded = await guard.plane.open_stream(StreamingContext(call_id, format, 200, stream))
    cuts = [body[at : at + step] for at in range(0, len(body), step)] if step else [body]
    out = b""
    for last, data in [*((False, cut) for cut in cuts), (True, b"")]:
        release = await guarded.feed(data, last=last)
        out += release.data
        while release.pending:
            release = await guarded.settle()
            out += release.data
        if release.answer is not None:
            out += release.answer.body
    return Sent(out, await guard.plane.close(call_id), read(out, format, stream=stream))
