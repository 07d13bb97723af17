"""Output items: one record of each that reader and writer share, and where its events say that it stands.

Clients put events together by `output_index` or by `item_id`, some by both. Where these disagree (an index used twice,
an item spoken of after its end, an index that is no index), the item gets a place of its own and the events are made to
say so: then all clients see what the policies saw.
"""

from __future__ import annotations

from typing import Any

from luthien_guard.wire.format import Block, Piece, PieceKind

__all__ = ["Item", "Items"]


class Item:
    """One output item: its texts by (kind, part index), its call, and every other thing it was heard to say."""

    __slots__ = (
        "begun",
        "call",
        "ended",
        "id",
        "index",
        "kind",
        "name",
        "number",
        "others",
        "previews",
        "shown",
        "signed",
        "texts",
        "value",
    )

    def __init__(self, number: int, index: int, id: str) -> None:
        self.number = number  # as upstream counts
        self.index = index  # as it should be
        self.id = id
        self.name: str | None = None  # the id that its events get, where upstream's names two items
        self.kind = ""  # the item's type
        self.begun = self.ended = self.signed = False
        self.texts: dict[tuple[str, Any], Block] = {}
        self.call: Block | None = None
        self.value: Any = None  # the call's arguments as JSON, where they are no string
        self.others: list[tuple[Block, Any]] = []  # blocks that say other than the first did
        self.previews: dict[Any, list[str]] = {}  # parts of arguments that were spelled out
        self.shown: dict[Any, Any] = {}  # what was OPAQUE, by its key: repeats are not shown again

    @property
    def blocks(self) -> list[Block]:
        return [*self.texts.values(), *([self.call] if self.call is not None else [])]


class Items:
    """Finds the item that an event speaks of."""

    def __init__(self) -> None:
        self.all: list[Item] = []
        self._by_index: dict[int, Item] = {}  # by upstream's count, the newest
        self._by_id: dict[str, Item] = {}
        self._taken: set[int] = set()

    def of_event(
        self, data: dict[str, Any], pieces: list[Piece], *, begins: bool = False, fresh: bool = False
    ) -> Item:
        """The item of an event. `begins`: it announces the item; `fresh`: it says new things, so a closed item cannot
        be meant. Adds pieces where the event should say another place than it does."""
        inner = data.get("item")
        named = inner.get("id") if isinstance(inner, dict) else data.get("item_id")
        id = named if isinstance(named, str) else ""
        raw = data.get("output_index")
        number = _number(raw)
        item = self._find(number, id, begins=begins)
        if item is None or (item.ended and (begins or fresh)):
            item = self._new(number, id, late=item, begins=begins)
        if id and not item.id:
            item.id = id
            if (
                self._by_id.get(id, item) is not item
            ):  # it was heard of without an id, and this one is another's
                item.name = f"{id[:100]}_{item.index}"
        if "output_index" in data and (type(raw) is not int or raw != item.index):
            pieces.append(_canonical("output_index", item.index))
        self._name(item, id, pieces, announced=isinstance(inner, dict))
        if "item_id" in data and not id and (item.id or type(data["item_id"]) is not str):
            pieces.append(_canonical("item_id", item.name or item.id))
        return item

    def _name(self, item: Item, id: str, pieces: list[Piece], *, announced: bool) -> None:
        """One item, one id in all its events. An id that only the item itself says anew stays: clients send it back."""
        path = ("item", "id") if announced else ("item_id",)
        other = id != item.id and (not announced or self._by_id.get(id, item) is not item)
        if id and (item.name is not None or other):
            pieces.append(_canonical(path, item.name or item.id))
        elif id:
            self._by_id.setdefault(id, item)

    def of_output(self, raw: dict[str, Any], position: int, taken: set[int]) -> Item:
        """The item that an element of `output` repeats; a new one if there is none. `taken`: those found before."""
        id = raw.get("id")
        kind = raw.get("type")
        found = [self._by_id.get(id) if isinstance(id, str) and id else None, self._by_index.get(position)]
        for item in found:
            if item is not None and item.index not in taken and item.kind in ("", kind):
                break
        else:
            item = self._new(position, id if isinstance(id, str) else "", late=None, begins=True)
        taken.add(item.index)
        return item

    def _find(self, number: int | None, id: str, *, begins: bool) -> Item | None:
        known = self._by_id.get(id) if id else None
        if number is None:
            return (
                known if known is not None and not begins else (self.all[-1] if self.all and not id else None)
            )
        item = self._by_index.get(number)
        if item is None:
            return None if begins or known is None or known.ended else known
        if id and id != item.id:
            if begins and item.begun:
                return None
            if known is not None and known.number == number and not known.ended:
                return known
        return item

    def _new(self, number: int | None, id: str, *, late: Item | None, begins: bool) -> Item:
        index = number if number is not None and number not in self._taken else len(self._taken)
        while index in self._taken:
            index += 1
        item = Item(index if number is None else number, index, id)
        before = self._by_id.get(id) if id else None
        # clients begin anew where an item is announced, and only there
        if before is not None and (before is late or not before.ended or not begins):
            item.name = f"{id[:100]}_{index}"
        elif id:
            self._by_id[id] = item
        self._taken.add(index)
        self.all.append(item)
        self._by_index[item.number] = item
        return item


def _number(raw: Any) -> int | None:
    """An index as clients understand it: JavaScript finds element 0 under 0.0 and under "0", too."""
    if (type(raw) is float and raw.is_integer()) or (
        type(raw) is str and raw.isascii() and raw.isdecimal() and len(raw) < 10
    ):
        raw = int(raw)
    return raw if type(raw) is int and raw >= 0 else None


def _canonical(path: str | tuple[str, ...], value: Any) -> Piece:
    return Piece(
        PieceKind.DERIVED, path=(path,) if isinstance(path, str) else path, value=("canonical", value)
    )
