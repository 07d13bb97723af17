"""Calls leave one after the other.

There are clients that take a fragment of arguments for one of the call that began last, whatever its index says; clients
that go by the index do not mind the order. So what comes of other blocks while a call is open waits for the call's end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from luthien_guard.wire.format import Block, PieceKind, ReadChunk
from luthien_guard.wire.messages.blocks import Place, wire_key
from luthien_guard.wire.messages.reader import event_kind

__all__ = ["Turns"]

_BLOCKS: Final = frozenset({"content_block_start", "content_block_delta", "content_block_stop"})
_ENDS: Final = frozenset({"message_delta", "message_stop", "error"})
_DELTA: Final = PieceKind.DELTA


class Turns:
    """Puts the chunks of one stream into the order in which they leave."""

    __slots__ = ("_groups", "_later", "_open")

    def __init__(self) -> None:
        self._open: Any = None  # the key of the call that is open
        #: Blocks that wait, in the order of their starts...
        self._later: deque[tuple[Any, list[ReadChunk]]] = deque()
        #: ... and of those the last one of each key.
        self._groups: dict[Any, list[ReadChunk]] = {}

    def of(self, chunks: Sequence[ReadChunk]) -> Sequence[ReadChunk]:
        """What leaves now."""
        if len(chunks) == 1 and self._is_next(chunks[0]):
            return chunks
        out: list[ReadChunk] = []
        for read in chunks:
            if self._is_next(read):
                out.append(read)
            else:
                out += self._after(read)
        return out

    def _is_next(self, read: ReadChunk) -> bool:
        """The hot path: a delta, and no more, of the call that is open, or while none is."""
        if len(read.pieces) != 1 or read.pieces[0].kind is not _DELTA:
            return False
        if self._open is None:
            return True
        index = read.chunk.data.get("index")
        return type(index) is int and index == self._open

    def _after(self, read: ReadChunk) -> Iterator[ReadChunk]:
        kind, key = _about(read)
        block = _begun(read)
        if self._open is not None and key == self._open and block is not None:
            self._open = None  # a start where no stop was
            yield from self._waiting()
        if self._open is None:
            yield self._left(read, kind, key, block)
        elif kind in _BLOCKS and key != self._open:
            self._wait(read, key, begins=block is not None)
        elif kind in _ENDS:
            yield from self._rest()
            yield read
        else:
            yield self._left(read, kind, key, block)
            yield from self._waiting()

    def _wait(self, read: ReadChunk, key: Any, *, begins: bool) -> None:
        if begins or key not in self._groups:
            self._groups[key] = []
            self._later.append((key, self._groups[key]))
        self._groups[key].append(read)

    def _left(self, read: ReadChunk, kind: Any, key: Any, block: Block | None) -> ReadChunk:
        if block is not None and block.kind == "call":
            self._open = key
        if kind == "content_block_stop" and key == self._open:
            self._open = None
        return read

    def _waiting(self) -> Iterator[ReadChunk]:
        """Block by block, up to a call that is not over yet. One that begins anew further behind is: nothing comes to it."""
        while self._later and self._open is None:
            key, group = self._later.popleft()
            if self._groups[key] is group:
                del self._groups[key]
            for read in group:
                yield self._left(read, *_about(read), _begun(read))
            if key in self._groups and self._open == key:
                self._open = None

    def _rest(self) -> Iterator[ReadChunk]:
        """Everything that waits: no call is ended any more."""
        self._open = None
        while self._later:
            yield from self._waiting()
            self._open = None


def _about(read: ReadChunk) -> tuple[Any, Any]:
    """The type of an event, and the key of the block that it is about."""
    chunk = read.chunk
    if type(chunk.data) is not dict:
        # the end of the bytes stops what is open
        ended = not chunk.raw and any(piece.kind is PieceKind.STOP for piece in read.pieces)
        return ("error" if ended else None), None
    kind = event_kind(chunk)
    return kind, wire_key(chunk.data.get("index")) if kind in _BLOCKS else None


def _begun(read: ReadChunk) -> Block | None:
    """The block that begins in a chunk, if it is a text or a call."""
    for piece in read.pieces:
        if piece.kind is PieceKind.START and piece.block is not None and isinstance(piece.block.codec, Place):
            return piece.block
    return None
