"""What has left of a response so far: enough to end it at any point with true repeats of what was said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

__all__ = ["Outbox"]

_TEXT: Final = {
    "response.output_text.delta": ("content", "content_index", "text"),
    "response.refusal.delta": ("content", "content_index", "refusal"),
    "response.reasoning_text.delta": ("content", "content_index", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index", "text"),
}
_ARGUMENTS: Final = {
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
    "response.mcp_call_arguments.delta": "arguments",
    "response.code_interpreter_call_code.delta": "code",
}
_DONE: Final = {
    "output_text": ("response.output_text.done", "text"),
    "refusal": ("response.refusal.done", "refusal"),
    "reasoning_text": ("response.reasoning_text.done", "text"),
    "summary_text": ("response.reasoning_summary_text.done", "text"),
}


class _Open:
    """An item that has begun and not ended; its parts by (field, index), their texts in pieces."""

    __slots__ = ("arguments", "item", "parts", "texts")

    def __init__(self, item: dict[str, Any]) -> None:
        self.item = item
        self.parts: dict[tuple[str, Any], dict[str, Any]] = {}
        self.texts: dict[tuple[str, Any], list[str]] = {}
        self.arguments: list[str] = []


class Outbox:
    """Follows the events that leave."""

    def __init__(self) -> None:
        self.response: dict[str, Any] | None = None  # as the last event that left carried it
        self.done: dict[Any, dict[str, Any]] = {}  # finished items by output index
        self._open: dict[Any, _Open] = {}

    @property
    def next_index(self) -> int:
        """An output index that nothing has used yet."""
        used = [index for index in (*self.done, *self._open) if isinstance(index, int)]
        return max(used, default=-1) + 1

    def follow(self, kind: str, data: dict[str, Any]) -> None:
        index = data.get("output_index")
        index = index if isinstance(index, int) else 0
        if kind in _TEXT:
            opened = self._open.get(index)
            if opened is not None and isinstance(data.get("delta"), str):
                field, at, _ = _TEXT[kind]
                opened.texts.setdefault((field, data.get(at)), []).append(data["delta"])
        elif kind in _ARGUMENTS:
            opened = self._open.get(index)
            if opened is not None and isinstance(data.get("delta"), str):
                opened.arguments.append(data["delta"])
        elif kind == "response.output_item.added" and isinstance(data.get("item"), dict):
            self._open[index] = _Open(data["item"])
        elif kind == "response.output_item.done" and isinstance(data.get("item"), dict):
            self._open.pop(index, None)
            self.done[index] = data["item"]
        elif kind.endswith("_part.added") and isinstance(data.get("part"), dict):
            opened = self._open.get(index)
            field = "summary" if "summary_index" in data else "content"
            if opened is not None:
                opened.parts[(field, data.get(f"{field}_index"))] = data["part"]
        elif isinstance(data.get("response"), dict):
            self.response = data["response"]

    def closing(self) -> Iterator[dict[str, Any]]:
        """The events that end the items which are open, with what was really said."""
        for index in sorted(self._open, key=str):
            opened = self._open[index]
            yield from self._close(index, opened)

    def _close(self, index: Any, opened: _Open) -> Iterator[dict[str, Any]]:
        item = {**opened.item, "status": "completed"}
        place = {"item_id": item.get("id", ""), "output_index": index}
        for (field, at), part in sorted(opened.parts.items(), key=str):
            spelled = _DONE.get(str(part.get("type")))
            if spelled is None:
                continue
            event, name = spelled
            text = "".join(opened.texts.get((field, at), ()))
            whole = {**part, name: text}
            where = {**place, f"{field}_index": at}
            kind = "response.reasoning_summary_part.done" if field == "summary" else "response.content_part.done"
            yield {"type": event, **where, name: text, **({"logprobs": []} if name == "text" and field == "content" else {})}
            yield {"type": kind, **where, "part": whole}
            item[field] = [*(item.get(field) or []), whole]
        yield from self._close_call(item, place, opened)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}

    def _close_call(self, item: dict[str, Any], place: dict[str, Any], opened: _Open) -> Iterator[dict[str, Any]]:
        """Only calls that no policy covers leave in pieces."""
        if item.get("type") != "function_call":
            return
        item["arguments"] = "".join(opened.arguments) or item.get("arguments", "")
        item["status"] = "incomplete"
        name = item.get("name", "")
        yield {"type": "response.function_call_arguments.done", **place, "name": name, "arguments": item["arguments"]}
