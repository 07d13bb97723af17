"""Who only looks on changes nothing, also where an upstream says what clients would read in several ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, Guard, GuardMiddleware, Policy, ToolCall, hookimpl
from tests.asgi_drive import ask, replay

PATHS = {
    "openai.chat": "/v1/chat/completions",
    "anthropic.messages": "/v1/messages",
    "openai.responses": "/v1/responses",
}


class Blocks(Policy):
    lookahead = 3

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("in shadow") if "b" in chunk.text else None

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("in shadow")

    @hookimpl
    def on_chunk_completed(self, chunk: Any) -> list[Any]:
        return []


def chat(delta: dict[str, Any], index: Any = 0) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def call(index: Any, id: str | None, arguments: Any) -> dict[str, Any]:
    entry = {"index": index, "id": id, "type": "function", "function": {"name": "f", "arguments": arguments}}
    return chat({"role": "assistant", "tool_calls": [entry]})


def delta(index: int, value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": value}


START = {
    "type": "message_start",
    "message": {
        "id": "m", "type": "message", "role": "assistant", "content": [], "model": "m",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
}  # fmt: skip
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
ITEM = {"type": "message", "role": "assistant", "content": [], "status": "in_progress"}
ODD: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "calls that share an index": ("openai.chat", [call(0, "a", "{}"), call(0, "b", "{}")]),
    "an index that is a string": ("openai.chat", [chat({"content": "a"}, "0"), call("1", "a", "{}")]),
    "arguments of two types": ("openai.chat", [call(0, "a", '{"b":'), call(0, None, 5), call(0, None, "1}")]),
    "another object": ("openai.chat", [chat({"content": "a"}), {**chat({"content": "b"}), "object": ""}]),
    "reasoning under two names": ("openai.chat", [chat({"reasoning": "a"}), chat({"reasoning_content": "b"})]),
    "a delta of nothing": ("anthropic.messages", [START, delta(0, {"type": "text_delta", "text": "b"})]),
    "a text that is a number": (
        "anthropic.messages",
        [START, TEXT, delta(0, {"type": "text_delta", "text": 5}), START],
    ),
    "text of another type": ("anthropic.messages", [START, TEXT, delta(0, {"type": "foo_delta", "text": "b"})]),
    "items in another order": (
        "openai.responses",
        [
            {"type": "response.output_item.added", "output_index": 1, "item": {"id": "A", **ITEM}},
            {"type": "response.output_item.added", "output_index": 0, "item": {"id": "B", **ITEM}},
            {"type": "response.output_text.delta", "output_index": 1, "item_id": "B", "content_index": 3, "delta": "b"},
        ],
    ),
}  # fmt: skip


def stream(events: list[dict[str, Any]]) -> bytes:
    named = (f"event: {each['type']}\n".encode() if "type" in each else b"" for each in events)
    return b"".join(
        name + b"data: " + json.dumps(each).encode() + b"\n\n"
        for name, each in zip(named, events, strict=True)
    )


@pytest.mark.parametrize("kind", ["observe", "shadow", "store"])
@pytest.mark.parametrize("odd", ODD)
async def test_what_nobody_may_change_leaves_as_it_came(odd: str, kind: str) -> None:
    wire_format, events = ODD[odd]
    body = stream(events)
    guards = {
        "observe": lambda: Guard([Blocks()], mode="observe"),
        "shadow": lambda: Guard([{"use": Blocks(), "mode": "shadow"}]),
        "store": lambda: Guard(store="memory://"),
    }
    request = json.dumps(
        {"model": "m", "messages": [], "input": "x", "max_tokens": 5, "stream": True}
    ).encode()
    async with guards[kind]() as guard:
        app = GuardMiddleware(
            replay(body, status=200, content_type="text/event-stream", cuts=(70, 9)), guard=guard
        )
        assert (await ask(app, PATHS[wire_format], request)).body == body
