"""The tool calls of one choice, put together from their fragments (`entries`)."""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.events import ToolKind
from luthien_guard.wire.chat.entries import CallNotes, read_entry, read_payload
from luthien_guard.wire.chat.fields import Envelope
from luthien_guard.wire.chat.folding import folded
from luthien_guard.wire.chat.indices import number_of
from luthien_guard.wire.chat.payloads import begins_anew, is_blank
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.indices import leaves_as, no_list
from luthien_guard.wire.json_text import DELETE
from luthien_guard.wire.strings import opaque

__all__ = ["Calls", "read_whole", "read_whole_legacy"]

NOT_BEGUN: Final = "more of a tool call that has not begun"


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
        return read_entry(block, raw, owner, envelope, pieces)

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
            strange = read_entry(block, raw, (*path, at), envelope, pieces) or strange
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
        return read_payload(block, raw, path, path, pieces)

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
        block.codec = CallNotes(index, whole=self._whole)
        if index is not None:
            self._by_index[index] = block
        if id:
            self._by_id.setdefault(id, block)
        self.all.append(block)
        pieces.append(Piece(PieceKind.START, block=block, owner=owner))
        return block


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
