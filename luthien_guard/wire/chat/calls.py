"""The tool calls of one choice, put together from their fragments."""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.events import ToolKind
from luthien_guard.wire.chat.fields import Envelope, arguments_piece
from luthien_guard.wire.chat.folding import folded
from luthien_guard.wire.chat.indices import number_of
from luthien_guard.wire.chat.payloads import (
    KEYS,
    REST,
    begins_anew,
    is_blank,
    is_foreign,
    kind_of,
    payload_of,
    rest_of,
)
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.indices import leaves_as, no_list
from luthien_guard.wire.json_text import DELETE
from luthien_guard.wire.strings import opaque

__all__ = ["CallNotes", "Calls", "read_whole", "read_whole_legacy"]

NOT_BEGUN: Final = "more of a tool call that has not begun"


class CallNotes:
    """What the writer has to know of a call: how its fragments spelled it."""

    __slots__ = ("entries", "id", "index", "is_json", "names", "out", "where")

    def __init__(self, index: int | None) -> None:
        self.index = index  # as its first fragment spelled it
        self.entries = 0  # of `tool_calls` that are its fragments
        self.names = 0  # fragments that carried a name
        self.where = ""  # of its payload, "" until known
        self.is_json = False  # its arguments came as JSON, not as a string
        self.out: int | None = None  # the index that leaves; the writer's
        self.id = ""  # that leaves, where another call has the same; the writer's


class Calls:
    """Finds the call of each fragment. `whole`: there is one fragment, the call at position `first` of a message."""

    __slots__ = ("_by_id", "_by_index", "_first", "_last", "_legacy", "_whole", "all")

    def __init__(self, *, whole: bool = False, first: int = 0) -> None:
        self.all: list[Block] = []
        self._by_index: dict[int, Block] = {}
        self._by_id: dict[str, Block] = {}
        self._last: Block | None = None
        self._legacy: Block | None = None
        self._whole = whole
        self._first = first

    def read(self, raw: Any, number: int, owner: Path, envelope: Envelope, pieces: list[Piece]) -> str:
        """The pieces of an entry of `tool_calls`; why it is of no known kind, "" where it is."""
        block = self._find(raw, number, owner, pieces)
        if block is None:
            return self._lost(raw, owner, pieces)
        return self._read_entry(block, raw, owner, envelope, pieces)

    def _lost(self, raw: Any, owner: Path, pieces: list[Piece]) -> str:
        """An entry of no call does not leave."""
        opaque(raw, owner, pieces, owner=owner)
        if not self._whole:
            pieces.append(leaves_as(owner, DELETE))
        return NOT_BEGUN if type(raw) is dict else "a tool call that is no object"

    def read_several(
        self, calls: list[Any], number: int, path: Path, envelope: Envelope, pieces: list[Piece]
    ) -> str:
        """The same for the entries of one chunk. Of the first list that it gets a client may take the entries as they
        stand, and put what follows to the first of an index alone. So no two of them are of one call: what goes on with
        a call leaves as one entry with its beginning, and what begins anew is another call."""
        strange = ""
        here: dict[Block, list[int]] = {}
        for at, raw in enumerate(calls):
            block = self._find(raw, number, (*path, at), pieces)
            if block is None:
                strange = self._lost(raw, (*path, at), pieces)
            elif block not in here:
                here[block] = [at]
            elif begins_anew(raw) and (block.name or any(begins_anew(calls[one]) for one in here[block])):
                here[self._again(raw, number, (*path, at), pieces)] = [at]
            else:
                here[block].append(at)
        for block, places in here.items():
            at = places[0]
            raw = calls[at]
            if len(places) > 1:
                at, raw = folded(calls, places, path, pieces)
            strange = self._read_entry(block, raw, (*path, at), envelope, pieces) or strange
        return strange

    def _read_entry(
        self, block: Block, raw: dict[str, Any], owner: Path, envelope: Envelope, pieces: list[Piece]
    ) -> str:
        notes: CallNotes = block.codec
        notes.entries += 1
        if not notes.where:
            notes.where = payload_of(raw)
            block.tool_kind = kind_of(notes.where)
        strange = ""
        if notes.where == REST:
            strange = self._read_rest(block, raw, owner, pieces)
        elif notes.where:
            strange = self._read_payload(block, raw.get(notes.where), (*owner, notes.where), owner, pieces)
        strange = self._read_members(block, raw, owner, envelope, pieces) or strange
        # Even a fragment that says nothing belongs to its call, and goes when the call goes. Behind what stands in it: no
        # other piece has a say about the place that its call got.
        pieces.append(Piece(PieceKind.DERIVED, block=block, path=owner, owner=owner, value="entry"))
        return strange

    def read_legacy(self, raw: Any, number: int, path: Path, pieces: list[Piece]) -> str:
        """The same for a `function_call`, of which a choice has one."""
        if type(raw) is not dict:
            opaque(raw, path, pieces)
            return "a function_call that is no object"
        block = self._legacy
        if block is None:
            block = self._legacy = self._new(number, None, "", "legacy", path, pieces)
            block.codec.where = "function"
        return self._read_payload(block, raw, path, path, pieces)

    # -- what a fragment says ------------------------------------------------------------------------------------------

    def _read_payload(self, block: Block, payload: Any, path: Path, owner: Path, pieces: list[Piece]) -> str:
        if payload is None:
            return ""
        if type(payload) is not dict:
            opaque(payload, path, pieces, owner=owner)
            return "a tool call whose payload is no object"
        name_key, key = KEYS[block.codec.where]
        self._name(block, payload.get(name_key), (*path, name_key), owner, pieces)
        arguments = payload.get(key)
        strange = ""
        if arguments is not None and (arguments != "" or self._whole):
            if _has_others(block, is_json=type(arguments) is not str):
                strange = _drop(payload, (key,), path, owner, pieces)
            else:
                pieces.append(arguments_piece(block, arguments, (*path, key), owner))
        rest = {each: one for each, one in payload.items() if each not in (name_key, key)}
        opaque(rest, path, pieces, owner=owner)
        return strange

    def _read_rest(self, block: Block, raw: dict[str, Any], owner: Path, pieces: list[Piece]) -> str:
        """A payload that nobody knows: JSON."""
        if not block.name and type(raw.get("type")) is str:
            self._name(block, raw["type"], (*owner, "type"), owner, pieces)
        rest = rest_of(raw)
        if not any(one is not None for one in rest.values()):
            return ""
        if _has_others(block, is_json=True):
            return _drop(rest, tuple(rest), owner, owner, pieces)
        piece = arguments_piece(block, rest, owner, owner)
        piece.value = tuple(rest)
        pieces.append(piece)
        return ""

    def _read_members(
        self, block: Block, raw: dict[str, Any], owner: Path, envelope: Envelope, pieces: list[Piece]
    ) -> str:
        """Everything of the entry that is not its payload."""
        where: str = block.codec.where
        strange = ""
        for key, value in raw.items():
            if key in ("id", "type"):
                envelope.check(value, (*owner, key), pieces, owner=owner)
                if not self._whole and not _is_named(key, value, where):
                    pieces.append(leaves_as((*owner, key), DELETE))
            elif key == "index":
                if type(value) is not int:
                    self._read_index(block, value, owner, pieces)
            elif key == where:
                continue
            elif is_foreign(raw, key, where):
                pieces.append(leaves_as((*owner, key), DELETE))
                opaque(value, (*owner, key), pieces, owner=owner)
                strange = "a tool call with several payloads"
            elif where != REST or key in KEYS:
                opaque({key: value}, owner, pieces, owner=owner)
        return strange

    def _read_index(self, block: Block, value: Any, owner: Path, pieces: list[Piece]) -> None:
        opaque(value, (*owner, "index"), pieces, owner=owner)
        if value is not None and not self._whole:
            pieces.append(leaves_as((*owner, "index"), block.codec.index or 0))

    def _name(self, block: Block, name: Any, path: Path, owner: Path, pieces: list[Piece]) -> None:
        """A name that is repeated in every fragment counts once; one that comes in fragments is put together."""
        begun = bool(block.name) or self._whole or block is self._legacy
        if name is None or (name == "" and begun):
            return
        if type(name) is not str or (is_blank(name) and not begun):
            # of a call with a blank name some clients read no beginning
            opaque(name, path, pieces, owner=owner)
            pieces.append(leaves_as(path, DELETE))
            return
        block.codec.names += 1
        if not block.name:
            block.name = name
        elif name != block.name:
            block.name += name
        pieces.append(Piece(PieceKind.DERIVED, block=block, path=path, text=name, owner=owner, value="name"))

    # -- whose fragment it is ------------------------------------------------------------------------------------------

    def _find(self, raw: Any, number: int, owner: Path, pieces: list[Piece]) -> Block | None:
        """The call that a fragment belongs to: by its index, unless it has a new id; without an index by its id;
        without either the last one. Clients do one or the other: where they would differ, the writer re-indexes.
        None where it belongs to no call: clients do not agree on whether what has neither id nor name begins one, or
        goes on with the one that has begun."""
        if type(raw) is not dict:
            return None
        index, id = number_of(raw.get("index")), raw.get("id")
        if type(id) is not str or is_blank(id):
            id = ""
        if index is None:
            known = self._by_id.get(id) if id else self._last
        else:
            known = self._by_index.get(index)
            if known is not None and id and known.id and known.id != id:
                known = self._by_id.get(id)
        if known is None:
            if not (id or self._whole or begins_anew(raw)):
                return None
            known = self._last = self._new(number, index, id, "function", owner, pieces)
        elif id and not known.id:
            known.id = id
            self._by_id.setdefault(id, known)
        return known

    def _again(self, raw: dict[str, Any], number: int, owner: Path, pieces: list[Piece]) -> Block:
        """Another call where `_find` would have it go on."""
        id = raw.get("id")
        index = number_of(raw.get("index"))
        self._last = self._new(number, index, id if type(id) is str else "", "function", owner, pieces)
        return self._last

    def _new(
        self, number: int, index: int | None, id: str, kind: ToolKind, owner: Path, pieces: list[Piece]
    ) -> Block:
        at = self._first + len(self.all)
        block = Block("call", choice=number, index=at, id=id, tool_kind=kind)
        block.codec = CallNotes(index)
        if index is not None:
            self._by_index[index] = block
        if id:
            self._by_id.setdefault(id, block)
        self.all.append(block)
        pieces.append(Piece(PieceKind.START, block=block, owner=owner))
        return block


def _is_named(key: str, value: Any, where: str) -> bool:
    """Clients that check a chunk read an id that is a string, and functions that are called so."""
    if key == "type" and where == "function":
        return value is None or value == "function"
    return value is None or (type(value) is str and (not value or not is_blank(value)))


def _has_others(block: Block, *, is_json: bool) -> bool:
    """True for what is no more of the arguments so far. Strings are put together; JSON some clients merge, some take the
    last of, and some skip: it is the whole of a call's arguments, or no part of them."""
    notes: CallNotes = block.codec
    if block.source and (is_json or notes.is_json):
        return True
    notes.is_json = is_json
    return False


def _drop(
    payload: dict[str, Any], keys: tuple[str, ...], path: Path, owner: Path, pieces: list[Piece]
) -> str:
    """These members do not leave."""
    for key in keys:
        opaque(payload[key], (*path, key), pieces, owner=owner)
        pieces.append(leaves_as((*path, key), DELETE))
    return "a tool call that has its arguments twice"


def read_whole(calls: Any, number: int, path: Path, envelope: Envelope, pieces: list[Piece]) -> str:
    """The `tool_calls` of a message: each entry is a call. Gives why they are of no known kind."""
    if type(calls) is not list:
        return "" if calls is None else no_list(calls, path, DELETE, pieces)
    strange = ""
    for at, raw in enumerate(calls):
        one = Calls(whole=True, first=at)
        strange = one.read(raw, number, (*path, at), envelope, pieces) or strange
        _stop(one, (*path, at), pieces)
    return strange


def read_whole_legacy(call: Any, number: int, path: Path, pieces: list[Piece]) -> str:
    """The same for the `function_call` of a message."""
    one = Calls(whole=True)
    strange = "" if call is None else one.read_legacy(call, number, path, pieces)
    _stop(one, path, pieces)
    return strange


def _stop(calls: Calls, owner: Path, pieces: list[Piece]) -> None:
    for block in calls.all:
        block.closed = True
        pieces.append(Piece(PieceKind.STOP, block=block, owner=owner))
