"""Parts of a call's arguments that are spelled out before the item says the whole as an object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from luthien_guard.events import ToolKind
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.responses.calls import Call, another, begin
from luthien_guard.wire.responses.items import Item
from luthien_guard.wire.strings import strings_in

__all__ = ["preview", "settle_previews"]

#: Of those that are no string of the arguments, how many are looked for inside of one. The rest counts as said otherwise.
_MOST: Final = 128
_BETWEEN: Final = "\0"


def preview(
    item: Item, kind: ToolKind, key: Any, text: str, path: Path, pieces: list[Piece], *, whole: bool
) -> None:
    """A part of arguments that the item will say as an object: it waits for that. `whole`: a repeat."""
    block = item.call or begin(item, kind, pieces)
    if block.closed and text and text not in _strings(item, block):
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


def settle_previews(item: Item, path: Path, pieces: list[Piece], owner: Path = ()) -> None:
    """Before the end of a call: what was spelled out and is no part of its arguments is said here."""
    block = item.call
    if block is None or not item.previews:
        return
    lost = list(_lost(item, block))
    item.previews = {}
    if lost:
        text = dumps(lost[0] if len(lost) == 1 else lost)
        block.source.append(text)
        pieces.append(Piece(PieceKind.DELTA, block=block, text=text, owner=owner))


def _lost(item: Item, block: Block) -> Iterator[str]:
    """The texts that are no part of the arguments. One pass over those, however many texts there are."""
    texts = dict.fromkeys("".join(parts) for parts in item.previews.values())
    strings = _strings(item, block)
    rest = [text for text in texts if text and text not in strings]
    everything = _BETWEEN.join(strings) if rest else ""
    for at, text in enumerate(rest):
        if at >= _MOST or _BETWEEN in text or text not in everything:
            yield text


def _strings(item: Item, block: Block) -> frozenset[str]:
    """Every string of the arguments. They are looked up once for all that a closed call is said to be."""
    if item.strings is None:
        found = frozenset(text for value in (item.value, block.text) for _, text in strings_in(value))
        if not block.closed:
            return found
        item.strings = found
    return item.strings
