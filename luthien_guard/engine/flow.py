"""A text that streams: frame after frame alike, of which only the text needs a decision.

A flow begins with a frame that held one piece of text and nothing else, but perhaps the beginning of that text, and that
left as it came or with another text in its place. As long as nothing else comes or happens, a frame like it
(`wire.alike`) needs neither parser nor reader nor writer: all three would do for it what they did for that one. Whatever
else comes ends the flow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Sequence

from luthien_guard.engine.text import TextLane
from luthien_guard.events import frame_chunk
from luthien_guard.wire.alike import Pattern, UnparsedChunk, pattern_of
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk

__all__ = ["Flow", "flow_of", "written"]

Item = tuple[bytes, int | None]


class Flow:
    """`lane` is None where no policy sees the text; `direct` says that nothing is held back in it."""

    __slots__ = ("_decide", "alike", "block", "direct", "lane", "path", "pattern")

    def __init__(self, pattern: Pattern, path: Path, block: Block, lane: TextLane | None) -> None:
        self.pattern = pattern
        self.path = path
        self.block = block
        self.lane = lane
        self.direct = lane is None or lane.through
        self.alike: Path | None = None  # where the text stands, if the text is all that anybody looks at
        self._decide = (
            None if lane is None else lane.stages[0].decide if len(lane.stages) == 1 else lane.decide
        )

    def decided(self, frame: bytes, text: str, number: int) -> Item | Awaitable[Item | None] | None:
        """What leaves for this frame, in a flow that is `direct`; None where its text is gone; to be awaited only where a
        policy waits for somebody. Raises Stop."""
        left = self.left_of(text)
        if left is text:
            return frame, number
        if isinstance(left, str):
            return self.item(frame, text, number, left)
        return self._item_later(frame, text, number, left)

    def left_of(self, text: str) -> str | Awaitable[str]:
        """What `decided` leaves of this text."""
        block = self.block
        block.source.append(text)
        if self._decide is None:
            return text
        left = self._decide(text)
        if left is text:
            block.released.append(text)
            return text
        return self._released(text, left) if isinstance(left, str) else self._released_later(text, left)

    def _released(self, text: str, left: str) -> str:
        self.block.released.append(left)
        if left == text:
            return text
        self.block.changed = True
        return left

    async def _released_later(self, text: str, left: Awaitable[str]) -> str:
        return self._released(text, await left)

    async def _item_later(self, frame: bytes, text: str, number: int, left: Awaitable[str]) -> Item | None:
        return self.item(frame, text, number, await left)

    def item(self, frame: bytes, text: str, number: int, left: str) -> Item | None:
        """What leaves for this frame, when this is what is left of its text."""
        if left is text:
            return frame, number
        return (self.pattern.with_text(frame, left), None) if left else None

    def chunk(self, frame: bytes) -> UnparsedChunk:
        """What the chunk hooks see."""
        return UnparsedChunk("data", frame, None, self.pattern.event)

    def read(self, frame: bytes, text: str, number: int) -> ReadChunk:
        """What the reader would find."""
        piece = Piece(PieceKind.DELTA, block=self.block, path=self.path, text=text)
        return ReadChunk(frame_chunk(frame, None), (piece,), number, self.pattern)


def flow_of(left: ReadChunk, item: Item, queue: Collection[ReadChunk], lane: TextLane | None) -> Flow | None:
    """The flow that begins with a chunk that left as `item`; None where it is no frame of a text alone, where the
    writer made something else of it, or where something else is still in the queue."""
    piece = _only_text(left.pieces[1:] if _begins(left.pieces) else left.pieces)
    if piece is None or left.source is None:
        return None
    block = piece.block
    pattern = left.pattern or pattern_of(left.chunk, piece.path)
    if block is None or pattern is None or item != _written(left, piece, pattern):
        return None
    if lane is not None and lane.through and queue:
        return None
    for read in queue:
        other = _only_text(read.pieces)
        if other is None or other.block is not block or not pattern.text_of(read.chunk.raw):
            return None
    for read in queue:
        read.pattern = pattern
    return Flow(pattern, piece.path, block, lane)


def written(read: ReadChunk) -> Item:
    """What leaves for a chunk with a pattern."""
    assert read.pattern is not None
    return _written(read, read.pieces[0], read.pattern)


def _written(read: ReadChunk, piece: Piece, pattern: Pattern) -> Item:
    out, raw = piece.out, read.chunk.raw
    return (raw, read.source) if out is None else (pattern.with_text(raw, out), None)


def _begins(pieces: Sequence[Piece]) -> bool:
    """A text begins here, and a frame like this one says more of it."""
    return len(pieces) == 2 and pieces[0].kind is PieceKind.START and pieces[0].path == pieces[1].path


def _only_text(pieces: Sequence[Piece]) -> Piece | None:
    if len(pieces) != 1:
        return None
    piece = pieces[0]
    return (
        piece
        if piece.kind is PieceKind.DELTA and piece.block is not None and piece.block.kind == "text"
        else None
    )
