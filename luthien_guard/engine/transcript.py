"""What a client makes of chunks: read once more, for the record, where the engine's own reading is not what passed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.engine.flow import Flow
from luthien_guard.events import Chunk
from luthien_guard.wire.format import Block, Piece, PieceKind, Reader, is_identifier

__all__ = ["READABLE", "Transcript", "numbers"]

READABLE: Final = frozenset({"data", "body", "done"})


class Transcript:
    """Blocks, finish reasons and usage of one response, as its chunks say them."""

    __slots__ = ("_flow", "_text", "blocks", "finish_reasons", "reader", "usage")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.blocks: list[Block] = []
        self.finish_reasons: dict[int, str] = {}  # by choice
        self.usage: Mapping[str, Any] | None = None
        self._flow: Flow | None = None
        self._text: Block | None = None  # the one that the flow's frames are more of

    def follow(self, chunk: Chunk, flow: Flow | None, text: str) -> None:
        """`read` for a chunk that may be a frame of a flow: of these the first one is read for all."""
        if flow is None or flow is not self._flow or self._text is None:
            pieces = self.read(chunk)
            self._flow, self._text = flow, pieces[0].block if len(pieces) == 1 else None
        else:
            self._text.source.append(text)

    def read(self, chunk: Chunk) -> list[Piece]:
        """The pieces of the next chunk."""
        pieces = self.reader.read(chunk) if chunk.kind in READABLE else []
        for piece in pieces:
            if piece.kind is PieceKind.START and piece.block is not None:
                self.blocks.append(piece.block)
            elif piece.kind is PieceKind.FINISH:
                self.finish_reasons[piece.value or 0] = piece.text
            elif piece.kind is PieceKind.USAGE and isinstance(piece.value, Mapping):
                self.usage = {**(self.usage or {}), **numbers(piece.value)}
        return pieces


def numbers(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Counts only: what we say again in an answer of our own may not carry upstream's strings."""
    found: dict[str, Any] = {}
    for key, value in usage.items():
        if isinstance(value, (int, float)) and is_identifier(key):
            found[key] = value
        elif isinstance(value, Mapping) and is_identifier(key):
            found[key] = {k: v for k, v in value.items() if isinstance(v, (int, float)) and is_identifier(k)}
    return found
