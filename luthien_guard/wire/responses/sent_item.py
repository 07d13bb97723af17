"""One item of a stream as it has left, and the events that end it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from luthien_guard.wire.responses.tables import PARTS, TextEvent

__all__ = ["ITEM_DONE", "PARTED", "SentItem"]

ITEM_DONE: Final = "response.output_item.done"
#: By the name of an index: the list of the item that it counts in, and the events that carry such a part.
_LISTS: Final = {
    "content_index": ("content", "response.content_part"),
    "summary_index": ("summary", "response.reasoning_summary_part"),
}
#: Those events: the name of their index.
PARTED: Final = {
    f"{prefix}.{step}": name for name, (_, prefix) in _LISTS.items() for step in ("added", "done")
}
#: How a part's text ends, by the part's type.
_DONE: Final = {
    "output_text": "response.output_text.done",
    "refusal": "response.refusal.done",
    "reasoning_text": "response.reasoning_text.done",
    "summary_text": "response.reasoning_summary_text.done",
}
#: By the kind of a text: the type of a part that nobody announced.
_UNANNOUNCED: Final = {event.kind: type for type, event in reversed(PARTS.items())}
#: How a call's arguments end, by the item's type: the event, and the field in event and item.
_CALLS: Final = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
    "mcp_call": ("response.mcp_call_arguments", "arguments"),
    "code_interpreter_call": ("response.code_interpreter_call_code", "code"),
}
#: Items that know no status `incomplete`.
_FAILED: Final = frozenset({"web_search_call", "image_generation_call"})


class SentPart:
    """A part as an event has said it last, and the deltas since."""

    __slots__ = ("deltas", "ended", "raw")

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.deltas: list[str] = []
        self.ended: set[str] = set()  # types of the events that have ended it

    def close(self, prefix: str, place: dict[str, Any], whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The two events that end it, unless they have left."""
        kind, name = _DONE[whole["type"]], PARTS[whole["type"]].field
        logprobs: dict[str, Any] = {"logprobs": []} if whole["type"] == "output_text" else {}
        if kind not in self.ended:
            yield {"type": kind, **place, name: whole[name], **logprobs}
        if f"{prefix}.done" not in self.ended:
            yield {"type": f"{prefix}.done", **place, "part": whole}

    def whole(self, *, silent: bool) -> dict[str, Any]:
        """What it is now; `silent`: without its text."""
        blank: dict[str, Any] = (
            {"annotations": [], "logprobs": []} if self.raw["type"] == "output_text" else {}
        )
        name = PARTS[self.raw["type"]].field
        text = "" if silent else str(self.raw.get(name) or "") + "".join(self.deltas)
        return {**blank, **self.raw, name: text}


class SentItem:
    """An item, as the last event has said it that carried it, and what was said since."""

    __slots__ = ("done", "item", "parts", "spelled")

    def __init__(self, item: dict[str, Any]) -> None:
        self.item = item
        self.done = False
        self.parts: dict[tuple[str, int], SentPart] = {}  # by the name of an index, and the index
        self.spelled: list[str] = []  # arguments

    def spell(self, kind: str, text: str) -> None:
        """A delta that is no text; those of the item's own kind are its arguments."""
        event, _ = _CALLS.get(str(self.item.get("type")), ("", ""))
        if kind == f"{event}.delta":
            self.spelled.append(text)

    def part_of(self, event: TextEvent, data: dict[str, Any]) -> SentPart:
        """The part that a delta, or the end of a text, speaks of."""
        part = self._part(event.part, data)
        if not part.raw:
            part.raw = {"type": _UNANNOUNCED[event.kind]}
        return part

    def carry(self, kind: str, data: dict[str, Any]) -> None:
        """An event that carries a part."""
        part = self._part(PARTED[kind], data)
        part.raw, part.deltas = data["part"], []
        part.ended.add(kind)

    def _part(self, name: str, data: dict[str, Any]) -> SentPart:
        at = data.get(name)
        key = name, at if type(at) is int else 0
        part = self.parts.get(key)
        if part is None:
            part = self.parts[key] = SentPart({})
        return part

    def close(self, index: int, *, silent: bool) -> Iterator[dict[str, Any]]:
        """The events that end it, with what was said; `silent`: without the texts."""
        item = dict(self.item)
        place = {"item_id": item.get("id", ""), "output_index": index}
        whole: dict[str, list[dict[str, Any]]] = {}
        for (name, at), part in sorted(self.parts.items(), key=_place_of):
            if str(part.raw.get("type")) in _DONE:
                field, prefix = _LISTS[name]
                raw = part.whole(silent=silent)
                whole.setdefault(field, []).append(raw)
                yield from part.close(prefix, {**place, name: at}, raw)
        item.update(whole)
        yield from self._close_call(item, place)
        if "status" in item or item.get("type") == "message":
            item["status"] = _status(str(item.get("type")))
        yield {"type": ITEM_DONE, "output_index": index, "item": item}

    def _close_call(self, item: dict[str, Any], place: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Only a call that no policy covers has left in part; it says of itself that it is incomplete."""
        known = _CALLS.get(str(item.get("type")))
        if known is None:
            return
        event, field = known
        item[field] = str(item.get(field) or "") + "".join(self.spelled)
        name = {"name": item.get("name", "")} if item.get("type") == "function_call" else {}
        yield {"type": f"{event}.done", **place, **name, field: item[field]}


def _place_of(part: tuple[tuple[str, int], SentPart]) -> tuple[str, int]:
    return part[0]


def _status(kind: str) -> str:
    if kind in ("message", "reasoning"):
        return "completed"
    return "failed" if kind in _FAILED else "incomplete"
