"""From decisions to changes of the JSON: what streams and bodies share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from luthien_guard.errors import IllegalOutput, WireError
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.json_text import DELETE, loads
from luthien_guard.wire.responses.items import Item
from luthien_guard.wire.responses.tables import ITEM

__all__ = ["NO_UNICODE", "changes_of", "gone", "illegal", "primary"]

NO_UNICODE: Final = "text that UTF-8 cannot say"

StandIn = Callable[[Item, Block], "dict[str, Any] | None"]


def primary(block: Block) -> Block:
    """The call of a block's item: its fate is the item's."""
    item: Item = block.codec
    return item.call or block


def gone(pieces: Sequence[Piece]) -> Block | None:
    """The removed call that a whole event belongs to."""
    for piece in pieces:
        block = piece.block
        if block is not None and block.kind == "call" and piece.owner == () and primary(block).removed:
            return primary(block)
    return None


def changes_of(pieces: Sequence[Piece], stand_in: StandIn) -> dict[Path, Any]:
    """The changes of one chunk's JSON. An element of `output` that is a removed call is replaced by what `stand_in`
    gives, or goes. Raises IllegalOutput where new arguments do not fit their place."""
    changes: dict[Path, Any] = {}
    whole: dict[Path, Any] = {}
    for piece in pieces:
        block = piece.block
        if block is None:
            if piece.kind is PieceKind.DERIVED:
                changes[piece.path] = piece.value[1]
        elif block.kind == "call" and primary(block).removed:
            if piece.owner:
                item = stand_in(block.codec, primary(block))
                whole[piece.owner] = DELETE if item is None else item
        elif block.kind == "call":
            _of_call(piece, block, changes)
        else:
            _of_text(piece, block, changes)
    for owner in whole:
        for path in [path for path in changes if path[: len(owner)] == owner]:
            del changes[path]
    return _outermost({**changes, **whole})


def _outermost(changes: dict[Path, Any]) -> dict[Path, Any]:
    """What goes or leaves otherwise as a whole has no changes within."""
    if len(changes) < 2:
        return changes
    return {
        path: value
        for path, value in changes.items()
        if not any(path[:at] in changes for at in range(1, len(path)))
    }


def _of_text(piece: Piece, block: Block, changes: dict[Path, Any]) -> None:
    kind = piece.kind
    if kind is PieceKind.DELTA:
        if piece.out is not None:
            changes[piece.path] = piece.out
    elif kind is PieceKind.ECHO:
        if block.changed and block.released_text != piece.text:
            changes[piece.path] = block.released_text
    elif kind is PieceKind.DERIVED:
        if piece.value[0] == "logprobs" and block.changed:
            changes[piece.path] = []
        elif piece.value[0] == "all" and any(each.changed for each in piece.value[1]):
            changes[piece.path] = "".join(
                each.released_text if each.changed else each.text for each in piece.value[1]
            )


def _of_call(piece: Piece, block: Block, changes: dict[Path, Any]) -> None:
    kind = piece.kind
    if block.removed:  # the item said other than before, and only that is forbidden: it says the same again
        block = primary(block)
        new: str | None = block.released_text if block.changed else block.text
        name: str | None = block.new_name or block.name
    else:
        name = block.new_name
        new = piece.out
        if kind is PieceKind.ECHO and block.changed and block.released_text != piece.text:
            new = block.released_text
    if kind is PieceKind.DERIVED:
        if piece.value[0] == "name" and name is not None:
            changes[piece.path] = name
    elif kind in (PieceKind.DELTA, PieceKind.ECHO) and new is not None and piece.path:
        _arguments(piece, new, changes)


def _arguments(piece: Piece, text: str, changes: dict[Path, Any]) -> None:
    if not piece.is_json:
        changes[piece.path] = text
        return
    try:
        value = loads(text.encode())
    except (WireError, UnicodeEncodeError):
        raise illegal("arguments that are not JSON where an object stands") from None
    _, fields, besides = piece.value
    if besides and isinstance(value, dict):
        value.pop(besides, None)  # no word of the item's
    if not fields:
        changes[piece.path] = value
        return
    if not isinstance(value, dict) or any(key in ITEM or key == "name" for key in value):
        raise illegal("arguments that are not an object of the call's own fields")
    for field in {*fields, *value}:
        changes[(*piece.path, field)] = value.get(field, DELETE)


def illegal(message: str) -> IllegalOutput:
    """The error that says so; the engine fills in whose fault it is."""
    return IllegalOutput(f"openai.responses: {message}", policy="", hook="")
