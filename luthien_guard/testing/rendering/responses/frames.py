"""The events of a streamed answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthien_guard.testing.rendering.parts import sse, with_end
from luthien_guard.testing.rendering.responses.objects import (
    call_item,
    envelope,
    item_of,
    part_of,
    response_of,
)
from luthien_guard.testing.script import Failure, Finish, Say, Script, Step, Unknown, Usage, UseTool

__all__ = ["Frames"]

_TEXTS = {"content": "output_text", "refusal": "refusal", "reasoning": "reasoning_summary_text"}


class Frames:
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
        response = response_of(self._script, self._steps, list(self._items))
        yield self._event(f"response.{response['status']}", response=response)

    def _begin(self) -> Iterator[bytes]:
        if self._begun:
            return
        self._begun = True
        response = envelope(self._script, "in_progress")
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)

    def _event(self, kind: str, **fields: Any) -> bytes:
        frame = sse({"type": kind, "sequence_number": self._number, **fields}, kind)
        self._number += 1
        return frame

    def _open_text(self, channel: str) -> Iterator[bytes]:
        self._open = (channel, [])
        item = item_of(channel, "", len(self._items), "in_progress")
        place = self._place(item["id"])
        bare = {**item, **({"summary": []} if channel == "reasoning" else {"content": []})}
        yield self._event("response.output_item.added", output_index=len(self._items), item=bare)
        kind = "reasoning_summary_part" if channel == "reasoning" else "content_part"
        yield self._event(f"response.{kind}.added", **place, part=part_of(channel, ""))

    def _delta(self, text: str) -> Iterator[bytes]:
        assert self._open is not None
        channel, said = self._open
        said.append(text)
        place = self._place(item_of(channel, "", len(self._items), "")["id"])
        extra: dict[str, Any] = {"logprobs": []} if channel == "content" else {}
        yield self._event(f"response.{_TEXTS[channel]}.delta", **place, delta=text, **extra)

    def _close(self) -> Iterator[bytes]:
        if self._open is None:
            return
        channel, text = self._open[0], "".join(self._open[1])
        self._open = None
        item = item_of(channel, text, len(self._items), "completed")
        place = self._place(item["id"], channel)
        key = "refusal" if channel == "refusal" else "text"
        extra: dict[str, Any] = {"logprobs": []} if channel == "content" else {}
        yield self._event(f"response.{_TEXTS[channel]}.done", **place, **{key: text}, **extra)
        kind = "reasoning_summary_part" if channel == "reasoning" else "content_part"
        yield self._event(f"response.{kind}.done", **place, part=part_of(channel, text))
        yield self._event("response.output_item.done", output_index=len(self._items), item=item)
        self._items.append(item)

    def _place(self, item: str, channel: str | None = None) -> dict[str, Any]:
        channel = channel or (self._open[0] if self._open else "content")
        inner = "summary_index" if channel == "reasoning" else "content_index"
        return {"item_id": item, "output_index": len(self._items), inner: 0}

    def _call(self, step: UseTool) -> Iterator[bytes]:
        at = len(self._items)
        item = call_item(step, at)
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
