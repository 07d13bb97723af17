"""Prompts and answers as the conventions' messages, where the deployer asked for them. Off by default."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from luthien_guard.exchange import ChatRequest
from luthien_guard.sinks.opentelemetry import semconv, values

__all__ = ["Capture", "as_json", "messages"]

logger = logging.getLogger("luthien_guard")

VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_LONGEST: Final = 8192  # characters of one text
_BUDGET: Final = 131_072  # characters of all: spans travel in batches, and a request may be megabytes
_CUT: Final = "...[cut]"

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Capture:
    """Where content goes: attributes of the span, an event (a log record of OpenTelemetry), neither, or both."""

    span: bool = False
    event: bool = False

    def __bool__(self) -> bool:
        return self.span or self.event

    @classmethod
    def from_environment(cls) -> Capture:
        """What `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` says; what it does not know means no."""
        asked = os.environ.get(VARIABLE, "").strip().upper()
        if asked not in _MODES:
            logger.warning(
                "%s has a value that is none of %s: no content", VARIABLE, ", ".join(filter(None, _MODES))
            )
        return _MODES.get(asked, cls())


_MODES: Final[Mapping[str, Capture]] = {
    "": Capture(),
    "NO_CONTENT": Capture(),
    "FALSE": Capture(),
    "TRUE": Capture(span=True),  # the boolean of earlier conventions
    "SPAN_ONLY": Capture(span=True),
    "EVENT_ONLY": Capture(event=True),
    "SPAN_AND_EVENT": Capture(span=True, event=True),
}


def as_json(messages: Sequence[Message]) -> str:
    """Attributes of spans cannot be structured."""
    return json.dumps(messages, ensure_ascii=False, separators=(",", ":"), default=str)


def messages(
    request: Mapping[str, Any], answer: Mapping[str, Any], wire_format: str
) -> dict[str, list[Message]]:
    """Attribute and messages; without those that are empty."""
    found = {
        semconv.SYSTEM_INSTRUCTIONS: _system_instructions(request),
        semconv.INPUT_MESSAGES: _input_messages(request, wire_format) if request else [],
        semconv.OUTPUT_MESSAGES: _output_messages(answer),
    }
    return {name: each for name, each in found.items() if each}


def _system_instructions(request: Mapping[str, Any]) -> list[Message]:
    """What stands beside the conversation: `system` (Anthropic), `instructions` (Responses)."""
    return _within(_parts(request.get("system") or request.get("instructions")))


def _input_messages(request: Mapping[str, Any], wire_format: str) -> list[Message]:
    """The conversation, oldest first; of a very long one only the end."""
    newest_first = reversed(ChatRequest(wire_format, request).messages)
    return _within(map(_message, newest_first))[::-1]


def _output_messages(response: Mapping[str, Any]) -> list[Message]:
    """One message for each choice of an assembled response."""
    found = (_choice(each) for each in _mappings(response.get("choices")))
    said = response.get("said")
    if not isinstance(said, list) or not said:
        return _within(found)
    parts = _within(_text(each) for each in said)
    return [*_within(found), {"role": "assistant", "parts": parts, "finish_reason": "content_filter"}]


def _choice(choice: Mapping[str, Any]) -> Message:
    texts, calls = _mappings(choice.get("texts")), _mappings(choice.get("tool_calls"))
    parts = chain(map(_spoken, texts), (_call(each, each.get("arguments")) for each in calls))
    reason = _cut(choice.get("finish_reason"))
    return {"role": "assistant", "parts": _within(parts, _BUDGET // 2), "finish_reason": reason}


def _spoken(text: Mapping[str, Any]) -> Message:
    return _text(text.get("text"), "reasoning" if text.get("channel") == "reasoning" else "text")


def _within(messages: Iterable[Message], room: int = _BUDGET) -> list[Message]:
    """The first of them, as many as there is room for."""
    found: list[Message] = []
    for message in messages:
        room -= len(json.dumps(message, default=str))
        if room < 0:
            break
        found.append(message)
    return found


def _message(raw: Any) -> Message:
    if not isinstance(raw, Mapping):
        return {"role": "user", "parts": [_text(raw)]}
    role = raw.get("role")
    if not isinstance(role, str):  # an item of Responses that is no message
        role = "tool" if str(raw.get("type", "")).endswith("_output") else "assistant"
        return {"role": role, "parts": [_part(raw)]}
    if role == "tool":
        return {"role": role, "parts": [_answer(raw.get("tool_call_id"), raw.get("content"))]}
    calls = (_function_call(call) for call in _mappings(raw.get("tool_calls")))
    # half of the room at most: one message of many parts must not crowd itself out
    return {"role": _cut(role), "parts": _within(chain(_parts(raw.get("content")), calls), _BUDGET // 2)}


def _function_call(call: Mapping[str, Any]) -> Message:
    function = call.get("function")
    function = function if isinstance(function, Mapping) else {}
    return _call({"id": call.get("id"), "name": function.get("name")}, function.get("arguments"))


def _parts(content: Any) -> Iterator[Message]:
    if isinstance(content, str):
        yield _text(content)
    for each in _mappings(content):
        yield _part(each)


def _part(raw: Mapping[str, Any]) -> Message:
    kind = str(raw.get("type", ""))
    if isinstance(raw.get("text"), str):
        return _text(raw["text"])
    if kind == "thinking":
        return _text(raw.get("thinking"), "reasoning")
    if kind.endswith(("tool_use", "_call")):
        call_id = raw.get("call_id") or raw.get("id")
        return _call({"id": call_id, "name": raw.get("name")}, raw.get("input", raw.get("arguments")))
    if kind.endswith(("tool_result", "_output")):
        return _answer(raw.get("tool_use_id") or raw.get("call_id"), raw.get("content", raw.get("output")))
    return {"type": _cut(kind) or "unknown"}  # an image, a file: no bytes of it


def _text(text: Any, kind: str = "text") -> Message:
    return {"type": kind, "content": _cut(text)}


def _call(call: Mapping[str, Any], arguments: Any) -> Message:
    return {
        "type": "tool_call",
        "id": _cut(call.get("id")),
        "name": _cut(call.get("name")),
        "arguments": _cut(arguments),
    }


def _answer(call_id: Any, response: Any) -> Message:
    return {"type": "tool_call_response", "id": _cut(call_id), "response": _cut(response)}


def _cut(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return values.text(text, _LONGEST) + (_CUT if len(text) > _LONGEST else "")


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    return (each for each in value if isinstance(each, Mapping)) if isinstance(value, list) else iter(())
