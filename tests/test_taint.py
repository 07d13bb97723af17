"""A marker in any string that the SDKs know, or in one that nobody knows, never reaches the client under a policy that
blocks the marker: whatever the shape, streamed or not, with the echo or without the text that it echoes."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import anthropic.types as messages
import anyio
import openai.types.chat as chat
import openai.types.responses as responses
import pytest

from luthien_guard import Block, ContentChunk, Guard, Policy, ToolCall, hookimpl
from luthien_guard.control_plane.service import StreamingContext
from luthien_guard.exchange import RequestMetadata, new_call_id
from tests.sdk_samples import tainted

MARKER = "the ✗ marker"
REQUEST = b'{"model":"m","messages":[],"input":[],"max_tokens":5}'


@cache
def _guard() -> Guard:
    return Guard([BlocksMarker()])


class BlocksMarker(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("marker", "no") if MARKER in chunk.text else None

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        return (
            Block("marker", "no")
            if MARKER in call.arguments + call.name + json.dumps(call.parsed, ensure_ascii=False)
            else None
        )


async def _released(format: str, body: bytes, *, stream: bool) -> bytes:
    guard = _guard()
    call_id = new_call_id()
    await guard.plane.decide_request(RequestMetadata(call_id, 0.0), format, REQUEST)
    guarded = await guard.plane.open_stream(StreamingContext(call_id, format, 200, stream))
    out = b""
    for last, data in ((False, body), (True, b"")):
        release = await guarded.feed(data, last=last)
        out += release.data + (release.answer.body if release.answer else b"")
    await guard.plane.close(call_id)
    return out


def leaks(format: str, bodies: dict[Any, bytes], *, stream: bool) -> list[Any]:
    escaped = json.dumps(MARKER)[1:-1].encode()

    async def run() -> list[Any]:
        found = []
        for path, body in bodies.items():
            out = await _released(format, body, stream=stream)
            if MARKER.encode() in out or escaped in out:
                found.append(path)
        return found

    return anyio.run(run)


def frame(event: Any, *, named: bool) -> bytes:
    name = f"event: {event['type']}\n" if named and "\n" not in str(event.get("type")) else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


BODIES = {
    "openai.chat": chat.ChatCompletion,
    "anthropic.messages": messages.Message,
    "openai.responses": responses.Response,
}
EVENTS = {
    "openai.chat": chat.ChatCompletionChunk,
    "anthropic.messages": messages.RawMessageStreamEvent,
    "openai.responses": responses.ResponseStreamEvent,
}
MISSING = "the type could not be sampled: the SDK has changed its shape"


@pytest.mark.parametrize("format", BODIES)
def test_no_string_of_a_body_goes_past(format: str) -> None:
    found = tainted(BODIES[format], MARKER)
    assert len(found) > 30, MISSING
    bodies = {path: json.dumps(value, ensure_ascii=False).encode() for path, value in found.items()}
    assert leaks(format, bodies, stream=False) == []


@pytest.mark.parametrize("format", EVENTS)
def test_no_string_of_a_stream_event_goes_past(format: str) -> None:
    found = tainted(EVENTS[format], MARKER)
    assert len(found) > 30, MISSING
    named = format != "openai.chat"
    bodies = {path: frame(value, named=named) for path, value in found.items()}
    assert leaks(format, bodies, stream=True) == []
    # the same event twice: what it says the second time may look like an echo of the first
    twice = {path: body + body for path, body in bodies.items()}
    assert leaks(format, twice, stream=True) == []


@pytest.mark.parametrize("format", EVENTS)
@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.brand_new.delta", "delta": MARKER},
        {"type": MARKER},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "new_delta", "new": MARKER}},
        {"choices": [{"index": 0, "delta": {"x_text": MARKER}}]},
        {"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": MARKER}]}}]},
        {"choices": [{"index": 0, "delta": {"content": {"deep": [[[MARKER]]]}}}]},
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"tool_calls": [{"index": 0, "function": {"arguments": {"a": MARKER}}}]},
                }
            ]
        },
        {"choices": MARKER},
        {"choices": [MARKER]},
        {MARKER: 1},
        {"a": {"b": {MARKER: None}}},
        [MARKER],
        MARKER,
    ],
    ids=repr,
)
def test_no_string_that_nobody_knows_goes_past(format: str, event: Any) -> None:
    body = json.dumps(event, ensure_ascii=False).encode()
    assert leaks(format, {"body": body}, stream=False) == []
    assert leaks(format, {"event": b"data: " + body + b"\n\n"}, stream=True) == []


@pytest.mark.parametrize("format", EVENTS)
@pytest.mark.parametrize("line", [": {}", "x: {}", "id: {}", "retry: {}", "event: {}", "{}"])
def test_no_line_that_readers_ignore_goes_past(format: str, line: str) -> None:
    body = (line.format(MARKER) + "\n\n").encode()
    assert leaks(format, {line: body, "with data": body[:-1] + b'data: {"a":1}\n\n'}, stream=True) == []
