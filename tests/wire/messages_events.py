"""Messages events by hand."""

from __future__ import annotations

import json
from typing import Any

__all__ = [
    "argued",
    "begun",
    "delta",
    "finished",
    "frame",
    "message",
    "said",
    "started",
    "stopped",
    "wire",
]


def message(content: Any, **more: Any) -> dict[str, Any]:
    return {"id": "m", "type": "message", "role": "assistant", "model": "x", "content": content,
            "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1}, **more}  # fmt: skip


def frame(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def started(*content: Any) -> dict[str, Any]:
    return {"type": "message_start", "message": message(list(content), stop_reason=None)}


def begun(index: int, kind: str = "text", **fields: Any) -> dict[str, Any]:
    inner: dict[str, Any] = {"text": ""} if kind == "text" else {"id": f"t{index}", "name": "sh", "input": {}}
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **inner, **fields}}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def said(index: int, text: str) -> dict[str, Any]:
    return delta(index, "text_delta", text=text)


def argued(index: int, text: Any) -> dict[str, Any]:
    return delta(index, "input_json_delta", partial_json=text)


def stopped(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def finished(reason: str = "end_turn") -> list[dict[str, Any]]:
    ends = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": ends, "usage": {"output_tokens": 1}}, {"type": "message_stop"}]


def wire(*events: Any) -> bytes:
    return b"".join(each if isinstance(each, bytes) else frame(each) for each in events)
