"""anthropic.messages as a client reads it: whoever sends what this complains about bricks an agent's session."""

from __future__ import annotations

import json
from typing import Any

from luthien_guard.testing.transcript import Called, Frame, Transcript

__all__ = ["read_body", "read_stream"]

_SAYS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class _Stream:
    """Follows the lifecycle of message and blocks."""

    def __init__(self) -> None:
        self.answer = Transcript()
        self.blocks: list[dict[str, Any]] = []
        self._started = False
        self._open = False
        self._ended = False  # message_delta was there

    def read(self, kind: str, data: dict[str, Any]) -> None:
        complain = self.answer.problems.append
        if self.answer.complete and kind != "ping":
            complain(f"{kind} after message_stop")
        if not self._started and kind not in ("message_start", "ping", "error"):
            complain(f"{kind} before message_start")
        if self._ended and kind not in ("message_stop", "ping", "error", "message_delta"):
            complain(f"{kind} after message_delta")
        step = getattr(self, f"_on_{kind}", None)
        if step is not None:
            step(data)

    def _on_message_start(self, data: dict[str, Any]) -> None:
        if self._started:
            self.answer.problems.append("a second message_start")
        self._started = True
        message = data.get("message", {})
        self.answer.usage = message.get("usage")
        begun = [_whole(each) for each in message.get("content") or [] if isinstance(each, dict)]
        self.blocks = [{**each, "said": [each["said"]]} for each in begun]

    def _on_content_block_start(self, data: dict[str, Any]) -> None:
        if self._open:
            self.answer.problems.append("a block starts inside a block")
        if data.get("index") != len(self.blocks):
            self.answer.problems.append(f"block {data.get('index')} where {len(self.blocks)} was due")
        self._open = True
        block = dict(data.get("content_block") or {})
        self.blocks.append({**block, "said": [block.get("text") or block.get("thinking") or ""]})

    def _on_content_block_delta(self, data: dict[str, Any]) -> None:
        if not self._open or data.get("index") != len(self.blocks) - 1:
            self.answer.problems.append(f"a delta for block {data.get('index')}, which is not open")
            return
        delta = data.get("delta") or {}
        key = _SAYS.get(delta.get("type", ""))
        if key is not None:
            self.blocks[-1]["said"].append(delta.get(key) or "")

    def _on_content_block_stop(self, data: dict[str, Any]) -> None:
        if not self._open or data.get("index") != len(self.blocks) - 1:
            self.answer.problems.append(f"a stop for block {data.get('index')}, which is not open")
        self._open = False

    def _on_message_delta(self, data: dict[str, Any]) -> None:
        if self._open:
            self.answer.problems.append("message_delta inside a block")
        self._ended = True
        reason = (data.get("delta") or {}).get("stop_reason")
        if reason:
            self.answer.finish += (reason,)
        self.answer.usage = {**(self.answer.usage or {}), **(data.get("usage") or {})}

    def _on_message_stop(self, data: dict[str, Any]) -> None:
        if not self._ended:
            self.answer.problems.append("message_stop without message_delta")
        self.answer.complete = True

    def _on_error(self, data: dict[str, Any]) -> None:
        self.answer.error = data.get("error") or {}


def read_stream(frames: list[Frame]) -> Transcript:
    stream = _Stream()
    for frame in frames:
        if not isinstance(frame.data, dict):
            continue
        kind = str(frame.data.get("type", ""))
        if frame.event is not None and frame.event != kind:
            stream.answer.problems.append(f"event {frame.event!r} carries type {kind!r}")
        stream.read(kind, frame.data)
    blocks = [{**block, "said": "".join(block["said"])} for block in stream.blocks]
    return _finished(stream.answer, blocks)


def read_body(data: dict[str, Any]) -> Transcript:
    answer = Transcript(complete=True, usage=data.get("usage"))
    if data.get("stop_reason"):
        answer.finish = (data["stop_reason"],)
    return _finished(answer, [_whole(block) for block in data.get("content") or []])


def _whole(block: dict[str, Any]) -> dict[str, Any]:
    said = block.get("text") or block.get("thinking") or ""
    if block.get("type") == "tool_use":
        said = block["input"] if isinstance(block.get("input"), str) else json.dumps(block.get("input"))
    return {**block, "said": said}


def _finished(answer: Transcript, blocks: list[dict[str, Any]]) -> Transcript:
    of = {
        kind: [each for each in blocks if each.get("type") == kind]
        for kind in ("text", "thinking", "tool_use")
    }
    answer.text = answer.choices[0] = "".join(each["said"] for each in of["text"])
    answer.reasoning = "".join(each["said"] for each in of["thinking"])
    answer.tool_calls = tuple(
        Called(each.get("id", ""), each.get("name", ""), each["said"] or "{}") for each in of["tool_use"]
    )
    if "tool_use" in answer.finish and not of["tool_use"]:
        answer.problems.append("stop_reason is tool_use and there is none")
    kinds = [each.get("type") for each in blocks]
    if "tool_use" in kinds and set(kinds[kinds.index("tool_use") :]) & {"text", "thinking"}:
        answer.problems.append("text follows a tool_use")
    if "thinking" in kinds[1:] and kinds[0] not in ("thinking", "redacted_thinking"):
        answer.problems.append("thinking does not come first")
    return answer
