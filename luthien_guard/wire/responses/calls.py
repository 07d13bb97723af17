"""Calls: from fragments, from items, from both, and what to make of repeats that say something else."""

from __future__ import annotations

from typing import Any, NamedTuple

from luthien_guard.events import ToolKind
from luthien_guard.wire.foreign import is_call_type, is_foreign_call
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.indices import strings_only
from luthien_guard.wire.json_text import DELETE, dumps
from luthien_guard.wire.responses.items import Item
from luthien_guard.wire.responses.lost import with_lost
from luthien_guard.wire.responses.tables import CALLS, ITEM, OF_PARTS
from luthien_guard.wire.strings import strings_in

__all__ = [
    "Call",
    "another",
    "begin",
    "call_of",
    "fragment",
    "is_call",
    "is_call_item",
    "read_call",
    "say_whole",
    "touch",
]


class Call(NamedTuple):
    """What a call item says. `text` is the arguments; where they are no single string, the JSON of `value`, which is
    the item's one payload field at `path`, or an object of several (`fields`, then `path` is the item)."""

    kind: ToolKind
    name: str
    id: str
    text: str
    value: Any
    path: Path
    fields: tuple[str, ...]


def is_call(kind: Any) -> bool:
    return isinstance(kind, str) and (kind in CALLS or is_call_type(kind))


def is_call_item(raw: dict[str, Any]) -> bool:
    """Also under a type that does not say so."""
    kind = raw.get("type")
    return is_call(kind) or (kind not in OF_PARTS and is_foreign_call(raw))


def call_of(raw: dict[str, Any], path: Path) -> Call:
    """The call that an item is. One that nobody knows has all its fields for arguments."""
    type_ = str(raw.get("type"))
    kind, names = CALLS.get(type_) or (
        "unknown",
        tuple(key for key in raw if key not in ITEM and key != "name"),
    )
    name, id = raw.get("name"), raw.get("call_id") or raw.get("id")
    name = name if isinstance(name, str) and name else type_
    id = id if isinstance(id, str) else ""
    present = tuple(each for each in names if raw.get(each) not in (None, "", [], {}))
    if len(present) == 1 and isinstance(raw[present[0]], str):
        return Call(kind, name, id, raw[present[0]], None, (*path, present[0]), present)
    if not present:
        return Call(kind, name, id, "", None, path, ())
    value = raw[present[0]] if len(present) == 1 else {each: raw[each] for each in present}
    where = (*path, present[0]) if len(present) == 1 else path
    return Call(kind, name, id, dumps(value), value, where, present)


# -- events ------------------------------------------------------------------------------------------------------------


def touch(item: Item, pieces: list[Piece], owner: Path = ()) -> None:
    """Whatever speaks of a call's item waits for the call, and goes with it."""
    if item.call is not None:
        pieces.append(Piece(PieceKind.DERIVED, block=item.call, owner=owner, value=("entry",)))


def begin(
    item: Item, kind: ToolKind, pieces: list[Piece], owner: Path = (), *, name: str = "", id: str = ""
) -> Block:
    block = item.call = Block("call", index=item.index, id=id, name=name or item.called, tool_kind=kind)
    block.codec = item
    pieces.append(Piece(PieceKind.START, block=block, owner=owner))
    return block


def fragment(item: Item, kind: ToolKind, text: str, pieces: list[Piece]) -> None:
    """More of the arguments, at `delta`."""
    block = item.call or begin(item, kind, pieces)
    block.source.append(text)
    pieces.append(Piece(PieceKind.DELTA, block=block, path=("delta",), text=text))


# -- items -------------------------------------------------------------------------------------------------------------


def read_call(
    item: Item, raw: dict[str, Any], path: Path, pieces: list[Piece], owner: Path, *, final: bool
) -> None:
    """A call item, as it begins, as it is done, or in a response. Not final: an object may still grow."""
    call = call_of(raw, path)
    strings_only(raw, "name", path, DELETE, pieces)
    block = item.call
    if block is None:
        block = begin(item, call.kind, pieces, owner, name=call.name, id=call.id)
    elif not block.closed and not (block.name and block.id):
        block.name, block.tool_kind, block.id = block.name or call.name, call.kind, block.id or call.id
    touch(item, pieces, owner)
    if block.name != call.name:
        another(item, call, path, pieces, owner, named=True)
        return
    if isinstance(raw.get("name"), str):
        pieces.append(_name(block, path, owner))
    if call.value is None:
        say_arguments(item, call.text, call.path, pieces, owner)
    elif not final and not block.closed and not block.source:
        for place, text in strings_in(call.value):
            item.previews[("item", place, text)] = [text]
            if call.kind != "shell":
                item.voices.setdefault("call", "")  # fragments are another call's
    else:
        _payload(item, block, call, path, pieces, owner)


def say_whole(item: Item, kind: ToolKind, name: str, text: str, path: Path, pieces: list[Piece]) -> None:
    """The arguments as the event at their end says them, with the tool's name if it says that, too."""
    block = item.call or begin(item, kind, pieces, name=name)
    item.whole = True
    if not block.closed:
        block.name = block.name or name
    if name in ("", block.name):
        say_arguments(item, text, path, pieces)
        if name:
            pieces.append(_name(block, (), ()))
    else:
        call = Call(block.tool_kind, name, block.id, text, None, path, (str(path[-1]),))
        another(item, call, path[:-1], pieces, (), named=True)


def say_arguments(item: Item, text: str, path: Path, pieces: list[Piece], owner: Path = ()) -> None:
    """Arguments as one string: the first that is heard of them, a repeat, or something else."""
    block = item.call
    assert block is not None
    if not text:
        return
    if item.value is None and text == block.text:
        pieces.append(Piece(PieceKind.ECHO, block=block, path=path, text=text, owner=owner))
    elif not block.source and not block.closed and not item.previews:
        block.source.append(text)
        pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text, owner=owner))
    else:
        call = Call(block.tool_kind, block.name, block.id, text, None, path, (str(path[-1]),))
        another(item, call, path[:-1], pieces, owner, named=False)


def _payload(item: Item, block: Block, call: Call, path: Path, pieces: list[Piece], owner: Path) -> None:
    if item.value is not None and item.value == call.value:
        pieces.append(_arguments(PieceKind.ECHO, block, call, owner))
    elif not block.source and not block.closed:
        item.value = call.value
        call = call._replace(text=with_lost(item, block, call.text))
        block.source.append(call.text)
        pieces.append(_arguments(PieceKind.DELTA, block, call, owner))
    else:
        another(item, call, path, pieces, owner, named=False)


def another(item: Item, call: Call, path: Path, pieces: list[Piece], owner: Path, *, named: bool) -> None:
    """The item under another name or with other arguments: a call that nobody has judged yet."""
    key = (call.name, call.value is None, call.text)
    known = item.others.get(key)
    if known is not None:
        if call.fields:
            pieces.append(_arguments(PieceKind.ECHO, known, call, owner))
        pieces.extend([_name(known, path, owner)] if named else [])
        return
    block = Block("call", index=item.index, id=call.id, name=call.name, tool_kind=call.kind)
    block.codec = item
    item.also(key, block)
    pieces.append(Piece(PieceKind.START, block=block, owner=owner))
    if call.fields:
        block.source.append(call.text)
        pieces.append(_arguments(PieceKind.DELTA, block, call, owner))
    if named:
        pieces.append(_name(block, path, owner))
    block.closed = True
    pieces.append(Piece(PieceKind.STOP, block=block, owner=owner))


def _arguments(kind: PieceKind, block: Block, call: Call, owner: Path) -> Piece:
    several = call.fields if call.value is not None and len(call.fields) > 1 else ()
    return Piece(
        kind, block=block, path=call.path, text=call.text, owner=owner, is_json=call.value is not None,
        value=("fields", several, block.codec.besides),
    )  # fmt: skip


def _name(block: Block, path: Path, owner: Path) -> Piece:
    return Piece(
        PieceKind.DERIVED, block=block, path=(*path, "name"), text=block.name, owner=owner, value=("name",)
    )
