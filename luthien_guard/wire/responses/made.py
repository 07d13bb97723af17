"""What the guard itself says in this format: items, responses, and the events that carry them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

__all__ = ["blank_response", "error_body", "message_events", "message_item", "unicode", "usage_of"]


def unicode(text: str) -> str:
    """Words of ours, whatever they quote: half a surrogate pair, which JSON can escape and UTF-8 cannot say, is `?`."""
    return text.encode("utf-8", "replace").decode()


def message_item(id: str, text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": unicode(text), "annotations": [], "logprobs": []}
    return {"id": id, "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def message_events(item: dict[str, Any], output_index: int) -> list[dict[str, Any]]:
    """A whole message item, as a stream says it."""
    part = item["content"][0]
    place = {"item_id": item["id"], "output_index": output_index, "content_index": 0}
    begun = {**item, "status": "in_progress", "content": []}
    return [
        {"type": "response.output_item.added", "output_index": output_index, "item": begun},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": part["text"], "logprobs": []},
        {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": output_index, "item": item},
    ]


def usage_of(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Usage with every member that clients insist on: without it opencode asks again for ever."""
    found = dict(usage or {})
    counts: dict[str, Any] = {}
    for name, detail in (("input_tokens", "cached_tokens"), ("output_tokens", "reasoning_tokens")):
        count, details = found.get(name), found.get(f"{name}_details")
        counts[name] = count if isinstance(count, (int, float)) else 0
        counts[f"{name}_details"] = {detail: 0, **(details if isinstance(details, Mapping) else {})}
    total = found.get("total_tokens")
    counts["total_tokens"] = (
        total if isinstance(total, (int, float)) else counts["input_tokens"] + counts["output_tokens"]
    )
    return {**found, **counts}


def blank_response(id: str, model: str) -> dict[str, Any]:
    """A response object with every member that the SDKs' types require."""
    return {
        "id": id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": {},
    }


def error_body(status: int, code: str, message: str) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": unicode(message), "type": kind, "param": None, "code": code}}
