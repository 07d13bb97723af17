"""What has left of a stream so far: enough to judge what may come next, and to end it with true repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from luthien_guard.wire.responses.sent_item import ITEM_DONE, PARTED, SentItem
from luthien_guard.wire.responses.tables import DELTAS, DONES, PARTS, RESPONSES, TERMINAL

__all__ = ["Sent"]

#: The kind of a text, and the text.
Said: TypeAlias = tuple[str, str]


class Sent:
    """Follows the events that leave, as they leave.

    Clients read the events of one type, and texts of one kind as one. What policies have judged is what each of them has
    read by now; so that is kept, and what we repeat ourselves must not be news to any of them.
    """

    def __init__(self) -> None:
        self.response: dict[str, Any] | None = None  # as the last event that carried it
        self.items: dict[Any, SentItem] = {}  # by output index
        self.begun = False
        self.ended = False
        self._read: dict[tuple[str, str], list[str]] = {}  # by type of event and kind of text
        self._ours = math.inf  # the first item that is ours

    def delta(self, kind: str, data: dict[str, Any], text: str) -> None:
        """A delta that leaves with this text."""
        item = self.items.get(data.get("output_index"))
        event = DELTAS.get(kind)
        if event is not None:
            self._hear(kind, event.kind, text)
            if item is not None:
                item.part_of(event, data).deltas.append(text)
        elif item is not None:
            item.spell(kind, text)

    def follow(self, kind: str, data: dict[str, Any]) -> None:
        """Any other event that leaves with this data."""
        for each, text in _texts_of(kind, data):
            self._hear(kind, each, text)
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
            item.item, item.done = data["item"], kind == ITEM_DONE
        elif index in self.items:
            _follow_part(self.items[index], kind, data)

    def _hear(self, type: str, kind: str, text: str) -> None:
        key = (type, kind)
        read = self._read.get(key)
        if read is None:
            self._read[key] = [text]
        else:
            read.append(text)

    # -- the end -------------------------------------------------------------------------------------------------------

    @property
    def next_index(self) -> int:
        """An output index that nothing has used yet."""
        return max((index for index in self.items if type(index) is int), default=-1) + 1

    def output(self) -> list[dict[str, Any]]:
        """The items that are done, in order; only ours where the others would be news to somebody."""
        done = [(index, self.items[index].item) for index in sorted(self.items) if self.items[index].done]
        texts = [each for index, item in done if index < self._ours for each in _texts_of_item(item)]
        first = self._ours if self._is_news("", texts) else -1
        return [item for index, item in done if index >= first]

    def closing(self) -> list[dict[str, Any]]:
        """The events that end the items which are open, with what was really said where that is news to nobody."""
        self._ours = self.next_index
        events = self._closing(silent=False)
        said: dict[str, list[Said]] = {}
        for event in events:
            said.setdefault(event["type"], []).extend(_texts_of(event["type"], event))
        news = any(self._is_news(type, texts) for type, texts in said.items())
        return self._closing(silent=True) if news else events

    def _closing(self, *, silent: bool) -> list[dict[str, Any]]:
        left = [index for index in sorted(self.items) if not self.items[index].done]
        return [event for index in left for event in self.items[index].close(index, silent=silent)]

    def _is_news(self, type: str, texts: Sequence[Said]) -> bool:
        """Whether who reads the events of this type would read something, with these texts, that nobody has read yet."""
        for kind in {kind for kind, _ in texts}:
            more = [text for each, text in texts if each == kind]
            whole = "".join([*self._read.get((type, kind), ()), *more])
            if whole and not any(
                whole in "".join(read) for (_, each), read in self._read.items() if each == kind
            ):
                return True
        return False


def _follow_part(item: SentItem, kind: str, data: dict[str, Any]) -> None:
    if kind in DONES:
        item.part_of(DONES[kind], data).ended.add(kind)
    elif kind in PARTED and isinstance(data.get("part"), dict):
        item.carry(kind, data)


# -- what events say whole ---------------------------------------------------------------------------------------------


def _texts_of(type: str, data: dict[str, Any]) -> list[Said]:
    if type == ITEM_DONE:
        return _texts_of_item(data.get("item"))
    if type in PARTED:
        return _texts_of_part(data.get("part")) if type.endswith(".done") else []
    event = DONES.get(type)
    return [(event.kind, str(data.get(event.field) or ""))] if event is not None else []


def _texts_of_item(item: Any) -> list[Said]:
    found = [item.get(field) for field in ("content", "summary")] if isinstance(item, dict) else []
    return [
        each for parts in found if isinstance(parts, list) for part in parts for each in _texts_of_part(part)
    ]


def _texts_of_part(part: Any) -> list[Said]:
    event = PARTS.get(str(part.get("type"))) if isinstance(part, dict) else None
    return [(event.kind, str(part.get(event.field) or ""))] if event is not None else []
