"""Events of openai.responses for tests, and two ways in which clients put them together."""

from __future__ import annotations

import json
from typing import Any

from luthien_guard.wire.format import ReadChunk
from luthien_guard.wire.responses import RESPONSES
from tests.wire.harness import chunks_of, read_all

Event = dict[str, Any]


def stream(*events: Event) -> bytes:
    """The events as SSE, numbered."""
    numbered = [{"sequence_number": at, **event} for at, event in enumerate(events)]
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in numbered)


def parsed(body: bytes) -> list[Event]:
    return [chunk.data for chunk in chunks_of(body, stream=True) if chunk.kind == "data"]


def taken(*events: Event) -> list[ReadChunk]:
    return read_all(RESPONSES, chunks_of(stream(*events), stream=True), stream=True)


def response(kind: str, output: list[Any], **more: Any) -> Event:
    status = "in_progress" if kind in ("created", "in_progress") else kind
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    body = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": status, "output": output,
            "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": usage, **more}  # fmt: skip
    return {"type": f"response.{kind}", "response": body}


def call_item(n: int, arguments: str, **more: Any) -> Event:
    return {"id": f"fc_{n}", "type": "function_call", "status": "completed", "call_id": f"call_{n}",
            "name": f"tool_{n}", "arguments": arguments, **more}  # fmt: skip


def call(n: int, *fragments: str, index: int | None = None) -> list[Event]:
    """A function call, as a stream says it."""
    at = n if index is None else index
    place = {"item_id": f"fc_{n}", "output_index": at}
    arguments = "".join(fragments)
    return [
        {
            "type": "response.output_item.added",
            "output_index": at,
            "item": call_item(n, "", status="in_progress"),
        },
        *({"type": "response.function_call_arguments.delta", **place, "delta": each} for each in fragments),
        {"type": "response.function_call_arguments.done", **place, "arguments": arguments},
        {"type": "response.output_item.done", "output_index": at, "item": call_item(n, arguments)},
    ]


def message_item(n: int, text: str) -> Event:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_{n}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }


def message(n: int, *deltas: str) -> list[Event]:
    """A message, as a stream says it."""
    place = {"item_id": f"msg_{n}", "output_index": n, "content_index": 0}
    text = "".join(deltas)
    item = message_item(n, text)
    begun = {**item, "status": "in_progress", "content": []}
    return [
        {"type": "response.output_item.added", "output_index": n, "item": begun},
        {"type": "response.content_part.added", **place, "part": {**item["content"][0], "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": each, "logprobs": []} for each in deltas),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": item["content"][0]},
        {"type": "response.output_item.done", "output_index": n, "item": item},
    ]


def merged(events: list[Event], key: str) -> list[tuple[Any, str, str]]:
    """The calls as a client sees them that goes by `output_index` or by `item_id`: (key, name, arguments)."""
    found: dict[Any, list[str]] = {}
    for event in events:
        inner = event.get("item")
        place = (
            event.get("output_index")
            if key == "output_index"
            else event.get("item_id") or (inner or {}).get("id")
        )
        if event["type"] == "response.output_item.added" and inner["type"] == "function_call":
            found.setdefault(place, ["", ""])[0] += inner["name"]
            found[place][1] += inner["arguments"]
        elif event["type"] == "response.function_call_arguments.delta":
            found.setdefault(place, ["", ""])[1] += event["delta"]
    return [(place, name, arguments) for place, (name, arguments) in found.items()]
