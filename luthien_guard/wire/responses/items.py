"""Output items: one record of each that reader and writer share, and where its events say that it stands.

Clients put events together by `output_index` or by `item_id`, some by both. Where these disagree (an index used twice,
an item spoken of after its end, an index that is no index), the item gets a place of its own and the events are made to
say so: then all clients see what the policies saw.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from luthien_guard.wire.format import Block, Piece
from luthien_guard.wire.indices import index_of, leaves_as
from luthien_guard.wire.responses.joined import Joined
from luthien_guard.wire.responses.shown import Shown

__all__ = ["Item", "Items", "Places"]

#: What a delta says a bit of, and the type of its event.
Voice: TypeAlias = tuple[str, str]
_OTHERS: Final = 64  # of one item: what is forgotten is judged once more


class Item:
    """One output item: its texts by (kind, part index), its call, and every other thing it was heard to say."""

    __slots__ = (
        "astray",
        "begun",
        "besides",
        "call",
        "called",
        "ended",
        "id",
        "index",
        "joined",
        "kind",
        "listed",
        "name",
        "number",
        "others",
        "parts",
        "places",
        "previews",
        "shown",
        "signed",
        "strings",
        "texts",
        "value",
        "voices",
        "whole",
    )

    def __init__(self, number: int, index: int, id: str, joined: Joined, called: str = "") -> None:
        self.joined = joined  # the same for all items
        self.number = number  # as upstream counts
        self.index = index  # as it should be
        self.id = id
        self.name: str | None = None  # the id that its events get, where upstream's names two items
        self.kind = ""  # the item's type
        self.called = called  # the name of the call that this one goes on after
        self.begun = self.ended = self.signed = False
        self.whole = False  # its arguments were said as a whole: a further delta is another call's
        self.texts: dict[tuple[str, Any], Block] = {}
        self.call: Block | None = None
        self.value: Any = None  # the call's arguments as JSON, where they are no string
        self.others: dict[Any, Block] = {}  # blocks that say other than the first did, by what they say
        self.parts: dict[str, int] = {}  # by the name of an index: the first number that is unsaid
        self.places: dict[tuple[str, int], int] = {}  # parts that were announced anew: where they stand now
        self.listed: dict[str, set[int]] = {}  # by the name of an index: the parts that were announced
        # Names of indices of which some part is not where it was announced.
        self.astray: frozenset[str] = frozenset()
        self.previews: dict[Any, list[str]] = {}  # parts of arguments that were spelled out
        #: The member of the arguments, as policies see them, that holds what the item did not say.
        self.besides = ""
        self.strings: frozenset[str] | None = None  # of the arguments, once they are whole
        self.voices: dict[str, str] = {}  # by what is said bit by bit: the type of the events that say it
        self.shown = Shown()  # what was OPAQUE: repeats are not shown again

    @property
    def blocks(self) -> list[Block]:
        return [*self.texts.values(), *([self.call] if self.call is not None else [])]

    def also(self, key: Any, block: Block) -> None:
        """Another block, to be found again under its key; of very many the oldest are forgotten."""
        if len(self.others) >= _OTHERS:
            del self.others[next(iter(self.others))]
        self.others[key] = block

    def place(self, data: dict[str, Any], name: str) -> int:
        at = index_of(data.get(name)) or 0
        return self.places.get((name, at), at) if self.places else at

    def part(self, data: dict[str, Any], name: str, pieces: list[Piece], *, anew: bool = False) -> int:
        """Which of its parts an event speaks of in its member `name`; no number that clients agree on is 0. Adds a
        piece where the event should say another. `anew`: a part begins there that was begun before."""
        raw = data.get(name)
        if anew:
            self.places[name, index_of(raw) or 0] = self.parts.get(name, 1)
        place = self.place(data, name)
        if raw is None and not place and name not in self.parts:
            return 0  # an upstream that does not number its parts
        self.parts[name] = max(self.parts.get(name, 1), place + 1)
        if type(raw) is not int or raw != place:
            pieces.append(leaves_as((name,), place))
        return place

    def list_part(self, data: dict[str, Any], name: str, *, anew: bool) -> bool:
        """A part is announced; `anew`: where one was begun before. False where it cannot be a part of this item: clients
        that append it would have it where they take it for another."""
        listed = self.listed.setdefault(name, set())
        at = self.parts.get(name, 1) if anew else self.place(data, name)
        order = len(listed)
        if name in self.astray or (at != order and self.parts.get(name, 0) > order):
            return False
        listed.add(at)
        if at != order:
            self.astray |= {name}
        return True

    def misplaces(self, data: dict[str, Any], name: str) -> bool:
        """Whether clients that append would take a part that was announced for the one that an event speaks of."""
        return name in self.astray and self.place(data, name) not in self.listed[name]

    def is_announced_anew(self, raw: Any) -> bool:
        """True where an announcement cannot be the one of this item: clients forget then what they were told of it
        before, or keep it apart."""
        if self.whole or self.others or self.previews or (self.call is not None and self.call.source):
            return True
        if not isinstance(raw, dict):
            return False
        kind, name = raw.get("type"), raw.get("name")
        if self.begun and isinstance(kind, str) and kind != self.kind:
            return True
        if self.texts and (raw.get("content") or raw.get("summary")):
            return True
        return self.begun and self.call is not None and isinstance(name, str) and name != self.call.name


class Places:
    """Numbers that are free or taken; however many there are, the next free one is found at once."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: dict[int, int] = {}  # a taken number: one that is free, or leads to one

    def take(self, at: int) -> int:
        """The first free number from `at` on; it is taken from now on."""
        passed: list[int] = []
        while (after := self._next.get(at)) is not None:
            passed.append(at)
            at = after
        for each in (*passed, at):
            self._next[each] = at + 1
        return at

    def __len__(self) -> int:
        return len(self._next)

    def __contains__(self, at: int) -> bool:
        return at in self._next


class Items:
    """Finds the item that an event speaks of."""

    def __init__(self) -> None:
        self.all: list[Item] = []
        self.joined = Joined()
        self._by_index: dict[int, Item] = {}  # by upstream's count, the newest
        self._by_id: dict[str, Item] = {}
        self._taken = Places()

    def of_event(
        self,
        data: dict[str, Any],
        pieces: list[Piece],
        *,
        begins: bool = False,
        fresh: bool = False,
        voice: Voice | None = None,
    ) -> Item:
        """The item of an event. `begins`: it announces the item; `fresh`: it says new things, so a closed item cannot
        be meant, nor with a `voice` one that says the same by events of another type: there are clients that skip one
        of the two. Adds pieces where the event should say another place than it does."""
        inner = data.get("item")
        named = inner.get("id") if isinstance(inner, dict) else data.get("item_id")
        id = named if isinstance(named, str) else ""
        raw = data.get("output_index")
        number = index_of(raw)
        item = self._find(number, id, begins=begins)
        if item is None or _is_over(item, inner, begins=begins, fresh=fresh) or _is_other(item, voice):
            item = self._new(number, id, late=item, begins=begins)
        if voice is not None:
            item.voices[voice[0]] = voice[1]
        if id and not item.id:
            item.id = id
            # It was heard of without an id, and this one is another's.
            if self._by_id.get(id, item) is not item:
                item.name = f"{id[:100]}_{item.index}"
        # without one, some clients take it for the first item's
        if type(raw) is not int or raw != item.index:
            pieces.append(leaves_as(("output_index",), item.index))
        self._name(item, id, pieces, announced=isinstance(inner, dict))
        if "item_id" in data and not id and (item.id or type(data["item_id"]) is not str):
            pieces.append(leaves_as(("item_id",), item.name or item.id))
        return item

    def _name(self, item: Item, id: str, pieces: list[Piece], *, announced: bool) -> None:
        """One item, one id in all its events. An id that only the item itself says anew stays: clients send it back."""
        path = ("item", "id") if announced else ("item_id",)
        other = id != item.id and (not announced or self._by_id.get(id, item) is not item)
        if id and (item.name is not None or other):
            pieces.append(leaves_as(path, item.name or item.id))
        elif id:
            self._by_id.setdefault(id, item)

    def instead_of(self, item: Item, data: dict[str, Any], pieces: list[Piece]) -> Item:
        """Another item that this event, and those after it, speak of."""
        item = self._new(index_of(data.get("output_index")), item.id, late=item, begins=False)
        pieces.append(leaves_as(("output_index",), item.index))
        self._name(item, item.id, pieces, announced=False)
        return item

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
        free = number is not None and number not in self._taken
        index = self._taken.take(number if free and number is not None else len(self._taken))
        called = late.call.name if late is not None and late.call is not None else ""
        item = Item(index if number is None else number, index, id, self.joined, called)
        before = self._by_id.get(id) if id else None
        # clients begin anew where an item is announced, and only there
        if before is not None and (before is late or not before.ended or not begins):
            item.name = f"{id[:100]}_{index}"
        elif id:
            self._by_id[id] = item
        self.all.append(item)
        self._by_index[item.number] = item
        return item


def _is_other(item: Item, voice: Voice | None) -> bool:
    return voice is not None and item.voices.get(voice[0], voice[1]) != voice[1]


def _is_over(item: Item, announced: Any, *, begins: bool, fresh: bool) -> bool:
    """Whether an event that begins an item, or says new things, cannot mean this one."""
    if item.ended:
        return begins or fresh
    return (fresh and item.whole) or (begins and item.is_announced_anew(announced))
