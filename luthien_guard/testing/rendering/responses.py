"""openai.responses: items that are added, filled and done, each text told three times, the whole answer at the end."""

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

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def render(script: Script, *, stream: bool) -> Rendering:
    refused = failed(script, _error)
    if refused is not None:
        return refused
    if not stream:
        return broken_body(script, _body(script), _error)
    frames = _Frames(script)
    return stream_of(script, frames.of, frames.end)


class _Frames:
    """Numbers the events and remembers the item that is open."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._steps = tuple(with_end(script))
        self._number = 0
        self._items: list[dict[str, Any]] = []
        self._open: tuple[str, list[str]] | None = None  # channel, the deltas so far
        self._begun = False

    def of(self, step: Step) -> Iterator[bytes]:
        if isinstance(step, (Finish, Usage)):
            return
        yield from self._begin()
        if isinstance(step, Say):
            if self._open is None or self._open[0] != step.channel:
                yield from self._close()
                yield from self._open_text(step.channel)
            yield from self._delta(step.text)
        elif isinstance(step, UseTool):
            yield from self._close()
            yield from self._call(step)
        elif isinstance(step, Unknown):
            yield self._event(f"response.{step.name}", note=step.text)
        elif isinstance(step, Failure):
            yield self._event("error", code=step.code, message=step.message, param=None)

    def end(self) -> Iterator[bytes]:
        yield from self._begin()
        yield from self._close()
        response = _response(self._script, self._steps, list(self._items))
        yield self._event(f"response.{response['status']}", response=response)

    def _begin(self) -> Iterator[bytes]:
        if self._begun:
            return
        self._begun = True
        response = _envelope(self._script, "in_progress")
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)

    def _event(self, kind: str, **fields: Any) -> bytes:
        frame = sse({"type": kind, "sequence_number": self._number, **fields}, kind)
        self._number += 1
        return frame

    def _open_text(self, channel: str) -> Iterator[bytes]:
        self._open = (channel, [])
        item = _item(channel, "", len(self._items), "in_progress")
        place = self._place(item["id"])
        bare = {**item, **({"summary": []} if channel == "reasoning" else {"content": []})}
        yield self._event("response.output_item.added", output_index=len(self._items), item=bare)
        kind = "reasoning_summary_part" if channel == "reasoning" else "content_part"
        yield self._event(f"response.{kind}.added", **place, part=_part(channel, ""))

    def _delta(self, text: str) -> Iterator[bytes]:
        assert self._open is not None
        channel, said = self._open
        said.append(text)
        place = self._place(_item(channel, "", len(self._items), "")["id"])
        extra: dict[str, Any] = {"logprobs": []} if channel == "content" else {}
        yield self._event(f"response.{_TEXTS[channel]}.delta", **place, delta=text, **extra)

    def _close(self) -> Iterator[bytes]:
        if self._open is None:
            return
        channel, text = self._open[0], "".join(self._open[1])
        self._open = None
        item = _item(channel, text, len(self._items), "completed")
        place = self._place(item["id"], channel)
        key = "refusal" if channel == "refusal" else "text"
        extra: dict[str, Any] = {"logprobs": []} if channel == "content" else {}
        yield self._event(f"response.{_TEXTS[channel]}.done", **place, **{key: text}, **extra)
        kind = "reasoning_summary_part" if channel == "reasoning" else "content_part"
        yield self._event(f"response.{kind}.done", **place, part=_part(channel, text))
        yield self._event("response.output_item.done", output_index=len(self._items), item=item)
        self._items.append(item)

    def _place(self, item: str, channel: str | None = None) -> dict[str, Any]:
        channel = channel or (self._open[0] if self._open else "content")
        inner = "summary_index" if channel == "reasoning" else "content_index"
        return {"item_id": item, "output_index": len(self._items), inner: 0}

    def _call(self, step: UseTool) -> Iterator[bytes]:
        at = len(self._items)
        item = _call_item(step, at)
        place = {"item_id": item["id"], "output_index": at}
        bare = {**item, "arguments": "", "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=at, item=bare)
        for text in step.fragments:
            yield self._event("response.function_call_arguments.delta", **place, delta=text)
        # Its type in the SDK has a name, older servers send none.
        whole = {"arguments": step.arguments, "name": step.name}
        yield self._event("response.function_call_arguments.done", **place, **whole)
        yield self._event("response.output_item.done", output_index=at, item=item)
        self._items.append(item)


_TEXTS = {"content": "output_text", "refusal": "refusal", "reasoning": "reasoning_summary_text"}


def _part(channel: str, text: str) -> dict[str, Any]:
    if channel == "reasoning":
        return {"type": "summary_text", "text": text}
    if channel == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(channel: str, text: str, at: int, status: str) -> dict[str, Any]:
    if channel == "reasoning":
        return {"id": f"rs_scripted{at:04}", "type": "reasoning", "summary": [_part(channel, text)]}
    return {
        "id": f"msg_scripted{at:04}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [_part(channel, text)],
    }


def _call_item(step: UseTool, at: int) -> dict[str, Any]:
    return {
        "id": f"fc_scripted{at:04}",
        "type": "function_call",
        "status": "completed",
        "arguments": step.arguments,
        "call_id": step.id,
        "name": step.name,
    }


def _body(script: Script) -> dict[str, Any]:
    steps = tuple(with_end(script))
    body = _response(script, steps, _items(steps))
    return body | {step.name: {"note": step.text} for step in steps if isinstance(step, Unknown)}


def _items(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    said: list[Say] = []

    def close() -> None:
        if said:
            text = "".join(each.text for each in said)
            items.append(_item(said[0].channel, text, len(items), "completed"))
            said.clear()

    for step in steps:
        if isinstance(step, Say):
            if said and said[0].channel != step.channel:
                close()
            said.append(step)
        elif isinstance(step, UseTool):
            close()
            items.append(_call_item(step, len(items)))
    close()
    return items


def _response(script: Script, steps: tuple[Step, ...], items: list[dict[str, Any]]) -> dict[str, Any]:
    reason = _INCOMPLETE.get(finish_of(steps))
    return {
        **_envelope(script, "incomplete" if reason else "completed"),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": items,
        "usage": _usage(usage_of(steps)),
    }


def _envelope(script: Script, status: str) -> dict[str, Any]:
    return {
        "id": "resp_scripted0001",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": script.model,
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
        "metadata": {},
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input + usage.output,
    }


def _error(failure: Failure) -> dict[str, Any]:
    return {"error": {"message": failure.message, "type": failure.code, "param": None, "code": failure.code}}
