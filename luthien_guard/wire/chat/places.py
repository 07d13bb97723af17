"""Where the calls of one choice leave. Clients put fragments together by index or by id: no two calls may share one."""

from __future__ import annotations

from luthien_guard.errors import WireError
from luthien_guard.wire.format import Block
from luthien_guard.wire.json_text import loads

__all__ = ["Places"]


class Places:
    """The indices and ids that are taken in one choice."""

    __slots__ = ("_bare", "_calls", "_ids", "_indices", "_moved", "_next")

    def __init__(self) -> None:
        self._calls = 0
        self._ids: set[str] = set()
        self._indices: set[int] = set()
        self._bare = True  # all calls so far
        self._moved = False  # a call has another index than upstream said
        self._next = 0  # the first index that may be free

    def put(self, block: Block, *, removed: bool) -> None:
        """Give a call that leaves its place. It stays where upstream put it; but once a call was `removed`, or had to
        go elsewhere, upstream's indices are wrong: from there on calls are counted."""
        claimed = block.codec.index or 0  # a missing index is 0 for some clients
        place = claimed
        self._bare = self._bare and _is_bare(block)
        if removed or self._moved or (claimed in self._indices and not self._bare):
            place = self._free()
            self._moved = self._moved or place != claimed
        self._calls += 1
        self._indices.add(place)
        block.codec.out = place
        if block.id in self._ids:
            block.codec.id = self._other(block.id, place)
        if block.id:
            self._ids.add(block.codec.id or block.id)

    def _free(self) -> int:
        self._next = max(self._next, self._calls)
        while self._next in self._indices:
            self._next += 1
        return self._next

    def _other(self, id: str, place: int) -> str:
        other = f"{id[:100]}_{place}"
        while other in self._ids:
            other += "_"
        return other


def _is_bare(block: Block) -> bool:
    """A whole call in one fragment without an index, as some providers send all of theirs: put together, such calls
    are no JSON and so no call."""
    if block.codec.index is not None or block.codec.entries != 1:
        return False
    try:
        return isinstance(loads(block.text.encode()), dict)
    except WireError:
        return False
