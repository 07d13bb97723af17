"""Parts of a call's arguments that are spelled out before the item says the whole as an object."""

from __future__ import annotations

from typing import Any

from luthien_guard.events import ToolKind
from luthien_guard.wire.format import Path, Piece, PieceKind
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.responses.calls import Call, another, begin
from luthien_guard.wire.responses.items import Item
from luthien_guard.wire.responses.lost import lost, strings_of

__all__ = ["preview", "settle_previews"]


def preview(
    item: Item, kind: ToolKind, key: Any, text: str, path: Path, pieces: list[Piece], *, whole: bool
) -> None:
    """A part of arguments that the item will say as an object: it waits for that. `whole`: a repeat."""
    block = item.call or begin(item, kind, pieces)
    if (block.closed or block.source) and text and text not in strings_of(item, block):
        call = Call(kind, block.name, block.id, text, None, path, (str(path[-1]),))
        another(item, call, path[:-1], pieces, (), named=False)
        return
    said = item.previews.setdefault(key, [])
    if not whole:
        said.append(text)
    else:
        said[:] = ["".join(said)]  # it is asked for again with every repeat
        if text != said[0]:
            item.previews[(key, len(item.previews))] = [text]
    pieces.append(Piece(PieceKind.DERIVED, block=block, path=path, text=text, value=("preview",)))


def settle_previews(item: Item, pieces: list[Piece], owner: Path = ()) -> None:
    """Before the end of a call: one whose item never said its arguments consists of what was spelled out."""
    block = item.call
    if block is None or not item.previews:
        return
    found = lost(item, block)
    item.previews = {}
    if found:
        text = dumps(found[0] if len(found) == 1 else found)
        block.source.append(text)
        pieces.append(Piece(PieceKind.DELTA, block=block, text=text, owner=owner))
