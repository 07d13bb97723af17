"""anthropic.messages: `message_start`, content blocks one after the other, `message_delta`, `message_stop`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from luthien_guard.testing.rendering.parts import (
    Rendering,
    broken_body,
    failed,
    finish_of,
    sse,
    stream_of,
    usage_of,
    with_end,
)
from luthien_guard.testing.script import Failure, Finish, Say, Script, Step, Unknown, Usage, UseTool

__all__ = ["render"]

_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
}


def render(script: Script, *, stream: bool) -> Rendering:
    refused = failed(script, _error)
    if refused is not None:
        return refused
    if not stream:
        return broken_body(script, _body(script), _error)
    frames = _Frames(script)
    return stream_of(script, frames.of, frames.end)


def _event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, **fields}, kind)


class _Frames:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._steps = tuple(with_end(script))
        self._begun = False
        self._index = -1
        self._open: Say | None = None

    def of(self, step: Step) -> Iterator[bytes]:
        if isinstance(step, (Finish, Usage)):
            return
        if not self._begun:
            self._begun = True
            yield self._start()
            yield _event("ping")
        if isinstance(step, Failure):
            yield sse(_error(step), "error")
        elif isinstance(step, Unknown):
            yield _event(step.name, note=step.text)
        elif isinstance(step, Say):
            yield from self._say(step)
        elif isinstance(step, UseTool):
            yield from self._call(step)

    def end(self) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            yield self._start()
        yield from self._close()
        delta = {"stop_reason": _REASONS[finish_of(self._steps)], "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage={"output_tokens": usage_of(self._steps).output})
        yield _event("message_stop")

    def _start(self) -> bytes:
        usage = {**_usage(usage_of(self._steps)), "output_tokens": 1}
        return _event("message_start", message={**_message(self._script), "content": [], "usage": usage})

    def _say(self, step: Say) -> Iterator[bytes]:
        thinking = step.channel == "reasoning"
        if self._open is None or (self._open.channel == "reasoning") is not thinking:
            yield from self._close()
            self._open = step
            block = (
                {"type": "thinking", "thinking": "", "signature": ""}
                if thinking
                else {"type": "text", "text": ""}
            )
            yield self._begin(block)
        delta = (
            {"type": "thinking_delta", "thinking": step.text}
            if thinking
            else {"type": "text_delta", "text": step.text}
        )
        yield self._delta(delta)

    def _call(self, step: UseTool) -> Iterator[bytes]:
        yield from self._close()
        yield self._begin({"type": "tool_use", "id": step.id, "name": step.name, "input": {}})
        for text in step.fragments:
            yield self._delta({"type": "input_json_delta", "partial_json": text})
        yield _event("content_block_stop", index=self._index)

    def _begin(self, block: dict[str, Any]) -> bytes:
        self._index += 1
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> Iterator[bytes]:
        if self._open is None:
            return
        if self._open.channel == "reasoning" and self._open.signature:
            yield self._delta({"type": "signature_delta", "signature": self._open.signature})
        self._open = None
        yield _event("content_block_stop", index=self._index)


def _message(script: Script) -> dict[str, Any]:
    return {
        "id": "msg_scripted0001",
        "type": "message",
        "role": "assistant",
        "model": script.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _body(script: Script) -> dict[str, Any]:
    steps = tuple(with_end(script))
    body = {
        **_message(script),
        "content": _content(steps),
        "stop_reason": _REASONS[finish_of(steps)],
        "usage": _usage(usage_of(steps)),
    }
    return body | {step.name: {"note": step.text} for step in steps if isinstance(step, Unknown)}


def _content(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for step in steps:
        last = content[-1] if content else {"type": ""}
        if isinstance(step, UseTool):
            content.append({"type": "tool_use", "id": step.id, "name": step.name, "input": _input(step)})
        elif isinstance(step, Say) and step.channel == "reasoning":
            if last["type"] == "thinking":
                last["thinking"] += step.text
            else:
                content.append({"type": "thinking", "thinking": step.text, "signature": step.signature})
        elif isinstance(step, Say):
            if last["type"] == "text":
                last["text"] += step.text
            else:
                content.append({"type": "text", "text": step.text})
    return content


def _input(step: UseTool) -> Any:
    """The provider parses the arguments; what is not JSON it hands on as it is."""
    try:
        return json.loads(step.arguments)
    except ValueError:
        return step.arguments


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": usage.output,
        "service_tier": "standard",
    }


def _error(failure: Failure) -> dict[str, Any]:
    kind = "api_error" if failure.code == "server_error" else failure.code
    return {
        "type": "error",
        "error": {"type": kind, "message": failure.message},
        "request_id": "req_scripted0001",
    }
