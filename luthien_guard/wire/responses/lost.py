"""What was spelled out of a call's arguments, and is no part of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from luthien_guard.wire.format import Block
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.responses.items import Item
from luthien_guard.wire.strings import strings_in

__all__ = ["lost", "strings_of", "with_lost"]

#: Of those that are no string of the arguments, how many are looked for inside of one. The rest counts as said otherwise.
_MOST: Final = 128
_BETWEEN: Final = "\0"
_MEMBER: Final = "spelled_out"


def with_lost(item: Item, block: Block, text: str) -> str:
    """The arguments that policies see where the item says `text`, which is the JSON of `item.value`: with all that was
    spelled out besides, in a member of its own, whose name is `item.besides`."""
    found, item.previews = lost(item, block), {}
    if not found:
        return text
    if not isinstance(item.value, dict):
        return dumps([item.value, *found])
    item.besides = _MEMBER
    while item.besides in item.value:
        item.besides += "_"
    return dumps({**item.value, item.besides: found})


def lost(item: Item, block: Block) -> list[str]:
    """The texts that are no part of the arguments. One pass over those, however many texts there are."""
    return list(_lost(item, block)) if item.previews else []


def _lost(item: Item, block: Block) -> Iterator[str]:
    texts = dict.fromkeys("".join(parts) for parts in item.previews.values())
    strings = strings_of(item, block)
    rest = [text for text in texts if text and text not in strings]
    everything = _BETWEEN.join(strings) if rest else ""
    for at, text in enumerate(rest):
        if at >= _MOST or _BETWEEN in text or text not in everything:
            yield text


def strings_of(item: Item, block: Block) -> frozenset[str]:
    """Every string of the arguments. They are looked up once for all that a closed call is said to be."""
    if item.strings is None:
        found = frozenset(text for value in (item.value, block.text) for _, text in strings_in(value))
        if not block.closed:
            return found
        item.strings = found
    return item.strings
