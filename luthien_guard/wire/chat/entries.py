"""What one fragment of a tool call says."""

from __future__ import annotations

from typing import Any

from luthien_guard.wire.chat.fields import Envelope, arguments_piece
from luthien_guard.wire.chat.payloads import KEYS, REST, is_blank, is_foreign, kind_of, payload_of, rest_of
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.indices import leaves_as
from luthien_guard.wire.json_text import DELETE
from luthien_guard.wire.strings import opaque

__all__ = ["CallNotes", "read_entry", "read_payload"]


class CallNotes:
    """How the fragments of a call spelled it: what later ones are read by, and what the writer has to know."""

    __slots__ = ("entries", "id", "index", "is_json", "names", "out", "where", "whole")

    def __init__(self, index: int | None, *, whole: bool) -> None:
        self.index = index  # as its first fragment spelled it
        self.whole = whole  # it has one fragment: it stands in a message
        self.entries = 0  # of `tool_calls` that are its fragments
        self.names = 0  # fragments that carried a name
        self.where = ""  # of its payload, "" until known
        self.is_json = False  # its arguments came as JSON, not as a string
        self.out: int | None = None  # the index that leaves; the writer's
        self.id = ""  # that leaves, where another call has the same; the writer's


def read_entry(
    block: Block, raw: dict[str, Any], owner: Path, envelope: Envelope, pieces: list[Piece]
) -> str:
    """The pieces of an entry of `tool_calls` that is a fragment of the call `block`; why it is of no known kind, "" where
    it is."""
    notes: CallNotes = block.codec
    notes.entries += 1
    if not notes.where:
        notes.where = payload_of(raw)
        block.tool_kind = kind_of(notes.where)
    strange = ""
    if notes.where == REST:
        strange = _read_rest(block, raw, owner, pieces)
    elif notes.where:
        strange = read_payload(block, raw.get(notes.where), (*owner, notes.where), owner, pieces)
    strange = _read_members(block, raw, owner, envelope, pieces) or strange
    # Even a fragment that says nothing belongs to its call, and goes when the call goes. This piece is the last, so that
    # no other one changes the place that the call got.
    pieces.append(Piece(PieceKind.DERIVED, block=block, path=owner, owner=owner, value="entry"))
    return strange


def read_payload(block: Block, payload: Any, path: Path, owner: Path, pieces: list[Piece]) -> str:
    """The same for the name and the arguments alone: a `function_call`, or what an entry has under `function`."""
    if payload is None:
        return ""
    if type(payload) is not dict:
        opaque(payload, path, pieces, owner=owner)
        return "a tool call whose payload is no object"
    name_key, key = KEYS[block.codec.where]
    _name(block, payload.get(name_key), (*path, name_key), owner, pieces)
    arguments = payload.get(key)
    strange = ""
    if arguments is not None and (arguments != "" or block.codec.whole):
        if _cannot_join(block, is_json=type(arguments) is not str):
            strange = _drop(payload, (key,), path, owner, pieces)
        else:
            pieces.append(arguments_piece(block, arguments, (*path, key), owner))
    rest = {each: one for each, one in payload.items() if each not in (name_key, key)}
    opaque(rest, path, pieces, owner=owner)
    return strange


def _read_rest(block: Block, raw: dict[str, Any], owner: Path, pieces: list[Piece]) -> str:
    """A payload that nobody knows: JSON."""
    if not block.name and type(raw.get("type")) is str:
        _name(block, raw["type"], (*owner, "type"), owner, pieces)
    rest = rest_of(raw)
    if not any(one is not None for one in rest.values()):
        return ""
    if _cannot_join(block, is_json=True):
        return _drop(rest, tuple(rest), owner, owner, pieces)
    piece = arguments_piece(block, rest, owner, owner)
    piece.value = tuple(rest)
    pieces.append(piece)
    return ""


def _read_members(
    block: Block, raw: dict[str, Any], owner: Path, envelope: Envelope, pieces: list[Piece]
) -> str:
    """Everything of the entry that is not its payload."""
    where: str = block.codec.where
    strange = ""
    for key, value in raw.items():
        if key in ("id", "type"):
            envelope.check(value, (*owner, key), pieces, owner=owner)
            if not block.codec.whole and not _is_named(key, value, where):
                pieces.append(leaves_as((*owner, key), DELETE))
        elif key == "index":
            if type(value) is not int:
                _read_index(block, value, owner, pieces)
        elif key == where:
            continue
        elif is_foreign(raw, key, where):
            pieces.append(leaves_as((*owner, key), DELETE))
            opaque(value, (*owner, key), pieces, owner=owner)
            strange = "a tool call with several payloads"
        elif where != REST or key in KEYS:
            opaque({key: value}, owner, pieces, owner=owner)
    return strange


def _read_index(block: Block, value: Any, owner: Path, pieces: list[Piece]) -> None:
    opaque(value, (*owner, "index"), pieces, owner=owner)
    if value is not None and not block.codec.whole:
        pieces.append(leaves_as((*owner, "index"), block.codec.index or 0))


def _name(block: Block, name: Any, path: Path, owner: Path, pieces: list[Piece]) -> None:
    """A name that is repeated in every fragment counts once; one that comes in fragments is put together."""
    begun = bool(block.name) or block.codec.whole or block.tool_kind == "legacy"
    if name is None or (name == "" and begun):
        return
    if type(name) is not str or (is_blank(name) and not begun):
        # some clients do not take a call with a blank name for one that begins
        opaque(name, path, pieces, owner=owner)
        pieces.append(leaves_as(path, DELETE))
        return
    block.codec.names += 1
    if not block.name:
        block.name = name
    elif name != block.name:
        block.name += name
    pieces.append(Piece(PieceKind.DERIVED, block=block, path=path, text=name, owner=owner, value="name"))


def _is_named(key: str, value: Any, where: str) -> bool:
    """Clients that check a chunk read an id that is a string, and functions that are called so."""
    if key == "type" and where == "function":
        return value is None or value == "function"
    return value is None or (type(value) is str and (not value or not is_blank(value)))


def _cannot_join(block: Block, *, is_json: bool) -> bool:
    """True for arguments that cannot be more of those so far. Strings are put together; JSON some clients merge, some take the
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
