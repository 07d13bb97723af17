"""openai.responses as a client reads it: deltas, their repeats, and the whole answer at the end must agree."""

from __future__ import annotations

from typing import Any

from luthien_guard.testing.transcript import Called, Frame, Transcript

__all__ = ["read_body", "read_stream"]

_TERMINAL = ("response.completed", "response.incomplete", "response.failed")


class _Stream:
    """Follows numbers, items and texts."""

    def __init__(self) -> None:
        self.answer = Transcript()
        self.output: list[Any] = []
        self._number = -1
        self._open: dict[int, str] = {}  # output_index: item id
        self._texts: dict[tuple[Any, ...], list[str]] = {}

    def read(self, kind: str, data: dict[str, Any]) -> None:
        complain = self.answer.problems.append
        if self.answer.complete:
            complain(f"{kind} after the terminal event")
        number = data.get("sequence_number")
        if isinstance(number, int):
            if number <= self._number:
                complain(f"sequence_number {number} after {self._number}")
            self._number = number
        if kind == "response.output_item.added":
            self._open[data["output_index"]] = data["item"].get("id", "")
        elif kind == "response.output_item.done":
            self._done(data)
        elif kind == "error":
            self.answer.error = data
        elif kind in _TERMINAL:
            self._end(data["response"])
        elif kind.endswith((".delta", ".done")):
            self._text(kind, data)

    def _done(self, data: dict[str, Any]) -> None:
        if self._open.pop(data["output_index"], None) is None:
            self.answer.problems.append(f"item {data['output_index']} is done and was never added")
        self.output.append(data["item"])

    def _text(self, kind: str, data: dict[str, Any]) -> None:
        name, _, step = kind.rpartition(".")
        inner = data.get("content_index", data.get("summary_index"))
        key = (name, data.get("output_index"), inner)
        if step == "delta" and isinstance(data.get("delta"), str):
            if data.get("output_index") not in self._open:
                self.answer.problems.append(f"{kind} for an item that is not open")
            self._texts.setdefault(key, []).append(data["delta"])
            self.answer.heard += data["delta"]
            return
        whole = next((data[at] for at in ("text", "refusal", "arguments", "input") if at in data), None)
        if isinstance(whole, str) and whole != "".join(self._texts.get(key, [])):
            self.answer.problems.append(f"{kind} says other than its deltas")

    def _end(self, response: dict[str, Any]) -> None:
        answer = self.answer
        answer.complete = True
        if response.get("status") != "failed":
            if self._open:
                answer.problems.append(f"items {sorted(self._open)} are never done")
            if response.get("output") != self.output:
                answer.problems.append("the final output is not what the items said")
        if isinstance(response.get("error"), dict):
            answer.error = response["error"]
        answer.usage = response.get("usage")
        answer.finish = (_reason(response),)


def read_stream(frames: list[Frame]) -> Transcript:
    stream = _Stream()
    for frame in frames:
        if not isinstance(frame.data, dict):
            continue
        kind = str(frame.data.get("type", ""))
        if frame.event is not None and frame.event != kind:
            stream.answer.problems.append(f"event {frame.event!r} carries type {kind!r}")
        stream.read(kind, frame.data)
    return _finished(stream.answer, stream.output)


def read_body(data: dict[str, Any]) -> Transcript:
    answer = Transcript(complete=True, usage=data.get("usage"), finish=(_reason(data),))
    return _finished(answer, data.get("output") or [])


def _reason(response: dict[str, Any]) -> str:
    details = response.get("incomplete_details") or {}
    return str(details.get("reason") or response.get("status") or "")


def _finished(answer: Transcript, output: list[Any]) -> Transcript:
    for item in output:
        for part in item.get("content") or []:
            if part.get("type") == "reasoning_text":
                answer.reasoning += part.get("text") or ""
            else:
                answer.text += part.get("text") or ""
            answer.refusal += part.get("refusal") or ""
        for part in item.get("summary") or []:
            answer.reasoning += part.get("text") or ""
        if item.get("type") in ("function_call", "custom_tool_call"):
            arguments = item.get("arguments") or item.get("input") or ""
            answer.tool_calls += (Called(item.get("call_id", ""), item.get("name", ""), arguments),)
    answer.choices[0] = answer.text
    return answer
