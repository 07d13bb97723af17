"""What has left of a stream so far: enough to judge what may come next, and to end it with true repeats."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from luthien_guard.wire.responses.tables import RESPONSES, TERMINAL

__all__ = ["Sent", "SentItem"]

#: Deltas of parts: where the part stands in its item.
_PARTS: Final = {
    "response.output_text.delta": ("content", "content_index"),
    "response.refusal.delta": ("content", "content_index"),
    "response.reasoning_text.delta": ("content", "content_index"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index"),
}
#: How a call's arguments end, by the item's type: the event, and the field in event and item.
_CALLS: Final = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
    "mcp_call": ("response.mcp_call_arguments", "arguments"),
    "code_interpreter_call": ("response.code_interpreter_call_code", "code"),
}
#: How a part ends: the event, the field, and whether clients look for logprobs.
_DONE: Final = {
    "output_text": ("response.output_text.done", "text"),
    "refusal": ("response.refusal.done", "refusal"),
    "reasoning_text": ("response.reasoning_text.done", "text"),
    "summary_text": ("response.reasoning_summary_text.done", "text"),
}
_KINDS: Final = {
    "response.output_text.delta": "output_text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning_text",
    "response.reasoning_summary_text.delta": "summary_text",
}
#: Items that know no status `incomplete`.
_FAILED: Final = frozenset({"web_search_call", "image_generation_call"})


class SentItem:
    """An item as it has left: its parts by (field, index), True while they are open."""

    __slots__ = ("done", "item", "last", "parts", "said", "spelled")

    def __init__(self, item: dict[str, Any]) -> None:
        self.item = item
        self.done = False
        self.last: dict[str, int] = {}  # by field: the part of which an event told last
        self.parts: dict[tuple[str, Any], dict[str, Any]] = {}
        self.said: dict[tuple[str, Any], list[str]] = {}
        self.spelled: list[str] = []  # arguments


class Sent:
    """Follows the events that leave, as they leave.

    `tangled`: something was said of what stands before what was already said. Policies have judged it in the order in which
    it came; a repeat that we make ourselves would say it in the order in which it stands, so there is none.
    """

    def __init__(self) -> None:
        self.response: dict[str, Any] | None = None  # as the last event that carried it
        self.items: dict[Any, SentItem] = {}  # by output index
        self.begun = False
        self.ended = False
        self.tangled = False
        self._last = -1  # the item of which an event told last
        self._ours = math.inf  # the first item that is ours

    def delta(self, kind: str, data: dict[str, Any], text: str) -> None:
        """A delta that leaves with this text."""
        self._tells(data)
        item = self.items.get(data.get("output_index"))
        if item is None:
            return
        where = _PARTS.get(kind)
        if where is None:
            item.spelled.append(text)
            return
        at = data.get(where[1])
        key = (where[0], at if type(at) is int else 0)
        said = item.said.get(key)
        if said is None:
            said = item.said[key] = []
            item.parts.setdefault(key, {"type": _KINDS[kind]})
        said.append(text)

    def follow(self, kind: str, data: dict[str, Any]) -> None:
        """Any other event that leaves with this data."""
        self._tells(data)
        index = data.get("output_index")
        index = index if type(index) is int else 0
        if kind in RESPONSES:
            self.begun = True
            self.ended = self.ended or kind in TERMINAL
            self.response = data["response"] if isinstance(data.get("response"), dict) else self.response
        elif kind == "error":
            self.ended = True
        elif kind.startswith("response.output_item.") and isinstance(data.get("item"), dict):
            item = self.items.setdefault(index, SentItem({}))
            item.item, item.done = data["item"], kind.endswith(".done")
        elif kind.endswith("_part.added") and isinstance(data.get("part"), dict):
            found = self.items.get(index)
            field = "summary" if "summary" in kind else "content"
            at = data.get(f"{field}_index")
            if found is not None:
                found.parts[(field, at if type(at) is int else 0)] = data["part"]

    @property
    def next_index(self) -> int:
        """An output index that nothing has used yet."""
        return max((index for index in self.items if type(index) is int), default=-1) + 1

    def output(self) -> list[dict[str, Any]]:
        """The items that are done, in order; of tangled ones, ours."""
        first = self._ours if self.tangled else -1
        return [
            self.items[index].item
            for index in sorted(self.items)
            if self.items[index].done and index >= first
        ]

    def closing(self) -> Iterator[dict[str, Any]]:
        """The events that end the items which are open, with what was really said."""
        self._ours = self.next_index
        left = [index for index in sorted(self.items) if not self.items[index].done]
        self.tangled = self.tangled or any(index < self._last for index in left)
        for index in left:
            yield from _close(index, self.items[index], silent=self.tangled)

    def _tells(self, data: dict[str, Any]) -> None:
        index = data.get("output_index")
        if type(index) is not int:
            return
        self.tangled = self.tangled or index < self._last
        self._last = index
        item = self.items.get(index)
        for field in ("content_index", "summary_index"):
            at = data.get(field)
            if item is not None and type(at) is int:
                self.tangled = self.tangled or at < item.last.get(field, at)
                item.last[field] = at


def _close(index: int, sent: SentItem, *, silent: bool) -> Iterator[dict[str, Any]]:
    """`silent`: the events alone, without what was said."""
    item = dict(sent.item)
    place = {"item_id": item.get("id", ""), "output_index": index}
    parts: dict[str, list[dict[str, Any]]] = {}
    for (field, at), part in sorted(sent.parts.items(), key=str):
        kind, name = _DONE.get(str(part.get("type")), ("", "text"))
        if not kind:
            continue
        text = "" if silent else str(part.get(name) or "") + "".join(sent.said.get((field, at), ()))
        whole = _whole(part, name, text)
        parts.setdefault(field, []).append(whole)
        where = {**place, f"{field}_index": at}
        logprobs: dict[str, Any] = {"logprobs": []} if kind == "response.output_text.done" else {}
        yield {"type": kind, **where, name: text, **logprobs}
        prefix = "response.reasoning_summary_part" if field == "summary" else "response.content_part"
        yield {"type": f"{prefix}.done", **where, "part": whole}
    item.update(parts)
    yield from _close_call(sent, item, place, silent=silent)
    if "status" in item or item.get("type") == "message":
        item["status"] = _status(str(item.get("type")))
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _whole(part: dict[str, Any], name: str, text: str) -> dict[str, Any]:
    blank: dict[str, Any] = {"annotations": [], "logprobs": []} if part.get("type") == "output_text" else {}
    return {**blank, **part, name: text}


def _close_call(
    sent: SentItem, item: dict[str, Any], place: dict[str, Any], *, silent: bool
) -> Iterator[dict[str, Any]]:
    """Only a call that no policy covers has left in part; it says of itself that it is incomplete."""
    known = _CALLS.get(str(item.get("type")))
    if known is None:
        return
    event, field = known
    item[field] = "" if silent else str(item.get(field) or "") + "".join(sent.spelled)
    name = {"name": item.get("name", "")} if item.get("type") == "function_call" else {}
    yield {"type": f"{event}.done", **place, **name, field: item[field]}


def _status(kind: str) -> str:
    if kind in ("message", "reasoning"):
        return "completed"
    return "failed" if kind in _FAILED else "incomplete"
