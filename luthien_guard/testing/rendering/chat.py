"""openai.chat: one `chat.completion.chunk` for each delta, `[DONE]` at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthien_guard.testing.rendering.parts import (
    CREATED,
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

_FIELDS = {"content": "content", "reasoning": "reasoning_content", "refusal": "refusal"}
_REASONS = {"refusal": "stop"}  # openai.chat says `stop` and puts the words into `refusal`


def render(script: Script, *, stream: bool) -> Rendering:
    refused = failed(script, _error)
    if refused is not None:
        return refused
    if not stream:
        return broken_body(script, _body(script), _error)
    frames = _Frames(script)
    return stream_of(script, frames.of, lambda: [sse("[DONE]")])


def _envelope(script: Script, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-Scripted0001", "object": kind, "created": CREATED, "model": script.model}


class _Frames:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._begun: set[int] = set()
        self._calls: dict[int, int] = {}

    def of(self, step: Step) -> Iterator[bytes]:
        choice = getattr(step, "choice", 0)
        if choice not in self._begun and isinstance(step, (Say, UseTool, Unknown, Finish)):
            self._begun.add(choice)
            yield self._chunk(choice, {"role": "assistant", "content": "", "refusal": None})
        if isinstance(step, Say):
            yield self._chunk(choice, {_FIELDS[step.channel]: step.text})
        elif isinstance(step, UseTool):
            yield from self._call(step)
        elif isinstance(step, Unknown):
            yield self._chunk(choice, {step.name: {"note": step.text}})
        elif isinstance(step, Finish):
            yield self._chunk(choice, {}, _REASONS.get(step.reason, step.reason))
        elif isinstance(step, Usage):
            yield sse({**self._head(), "choices": [], "usage": _usage(step)})
        elif isinstance(step, Failure):
            yield sse(_error(step))

    def _call(self, step: UseTool) -> Iterator[bytes]:
        at = self._calls.get(step.choice, 0)
        self._calls[step.choice] = at + 1
        head = {"id": step.id, "type": "function", "function": {"name": step.name, "arguments": ""}}
        yield self._chunk(step.choice, {"tool_calls": [{"index": at, **head}]})
        for text in step.fragments:
            yield self._chunk(step.choice, {"tool_calls": [{"index": at, "function": {"arguments": text}}]})

    def _chunk(self, choice: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        inner = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse({**self._head(), "choices": [inner], "usage": None})

    def _head(self) -> dict[str, Any]:
        return {
            **_envelope(self._script, "chat.completion.chunk"),
            "service_tier": "default",
            "system_fingerprint": "fp_scripted01",
        }


def _body(script: Script) -> dict[str, Any]:
    steps = tuple(with_end(script))
    choices = sorted({step.choice for step in steps if isinstance(step, (Say, UseTool, Finish))} or {0})
    return {
        **_envelope(script, "chat.completion"),
        "choices": [_choice(steps, choice) for choice in choices],
        "usage": _usage(usage_of(steps)),
        "service_tier": "default",
        "system_fingerprint": "fp_scripted01",
    }


def _choice(steps: tuple[Step, ...], choice: int) -> dict[str, Any]:
    said = [step for step in steps if isinstance(step, Say) and step.choice == choice]
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    for channel, key in _FIELDS.items():
        text = "".join(step.text for step in said if step.channel == channel)
        if text:
            message[key] = text
    calls = [step for step in steps if isinstance(step, UseTool) and step.choice == choice]
    if calls:
        message["tool_calls"] = [
            {"id": each.id, "type": "function", "function": {"name": each.name, "arguments": each.arguments}}
            for each in calls
        ]
    if choice == 0:
        message |= {step.name: {"note": step.text} for step in steps if isinstance(step, Unknown)}
    reason = finish_of(steps, choice)
    return {
        "index": choice,
        "message": message,
        "logprobs": None,
        "finish_reason": _REASONS.get(reason, reason),
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _error(failure: Failure) -> dict[str, Any]:
    return {"error": {"message": failure.message, "type": failure.code, "param": None, "code": failure.code}}
