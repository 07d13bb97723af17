"""openai.chat as a client reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from luthien_guard.testing.transcript import Called, Frame, Transcript

__all__ = ["read_body", "read_stream"]


@dataclass(slots=True)
class _Choice:
    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    refusal: list[str] = field(default_factory=list[str])
    calls: dict[int, list[str]] = field(default_factory=dict[int, "list[str]"])  # id, name, arguments
    finish: str | None = None


def read_stream(frames: list[Frame]) -> Transcript:
    answer = Transcript()
    choices: dict[int, _Choice] = {}
    for frame in frames:
        if answer.complete:
            answer.problems.append("something follows [DONE]")
        if frame.data == "[DONE]":
            answer.complete = True
        elif isinstance(frame.data, dict):
            _read_chunk(frame.data, answer, choices)
    if answer.complete and answer.error is None:
        answer.problems += [
            f"choice {at} has no finish_reason" for at, choice in choices.items() if not choice.finish
        ]
    return _finished(answer, choices)


def _read_chunk(data: dict[str, Any], answer: Transcript, choices: dict[int, _Choice]) -> None:
    if isinstance(data.get("error"), dict):
        answer.error = data["error"]
    if data.get("usage"):
        answer.usage = data["usage"]
    for each in data.get("choices") or []:
        choice = choices.setdefault(each.get("index", 0), _Choice())
        _read_message(each.get("delta") or {}, choice, answer)
        if each.get("finish_reason"):
            if choice.finish:
                answer.problems.append("a choice finishes twice")
            choice.finish = each["finish_reason"]


def _read_message(message: dict[str, Any], choice: _Choice, answer: Transcript) -> None:
    said = False
    for key, into in (
        ("content", choice.text),
        ("reasoning_content", choice.reasoning),
        ("reasoning", choice.reasoning),
        ("refusal", choice.refusal),
    ):
        if isinstance(message.get(key), str) and message[key]:
            into.append(message[key])
            said = True
    for at, call in enumerate(message.get("tool_calls") or []):
        _read_call(call, at, choice, answer)
        said = True
    if said and choice.finish:
        answer.problems.append("something is said after finish_reason")


def _read_call(call: dict[str, Any], at: int, choice: _Choice, answer: Transcript) -> None:
    index = call.get("index", at)
    if index not in choice.calls:
        if index != len(choice.calls):
            answer.problems.append(f"tool call {index} begins after {len(choice.calls)} others")
        if not call.get("id"):
            answer.problems.append(f"tool call {index} begins without an id")
        choice.calls[index] = [call.get("id") or "", "", ""]
    function = call.get("function") or call.get("custom") or {}
    choice.calls[index][1] += function.get("name") or ""
    choice.calls[index][2] += function.get("arguments") or function.get("input") or ""


def read_body(data: dict[str, Any]) -> Transcript:
    answer = Transcript(complete=True, usage=data.get("usage"))
    choices: dict[int, _Choice] = {}
    for each in data.get("choices") or []:
        choice = choices.setdefault(each.get("index", 0), _Choice())
        _read_message(each.get("message") or {}, choice, answer)
        choice.finish = each.get("finish_reason")
    if not choices:
        answer.problems.append("the answer has no choices")
    return _finished(answer, choices)


def _finished(answer: Transcript, choices: dict[int, _Choice]) -> Transcript:
    for at in sorted(choices):
        choice = choices[at]
        if choice.finish in ("tool_calls", "function_call") and not choice.calls:
            answer.problems.append(f"choice {at} finishes for tool calls and has none")
        answer.choices[at] = "".join(choice.text)
        if choice.finish:
            answer.finish += (choice.finish,)
        answer.tool_calls += tuple(Called(*choice.calls[index]) for index in sorted(choice.calls))
    first = choices.get(0, _Choice())
    answer.text, answer.reasoning = "".join(first.text), "".join(first.reasoning)
    answer.refusal = "".join(first.refusal)
    return answer
