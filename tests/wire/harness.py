"""A stand-in for the engine: decides by a rule of one line, so that readers and writers are tested alone."""

from __future__ import annotations

from collections.abc import Callable

from luthien_guard.events import Chunk
from luthien_guard.testing.format_check.codec import read_by
from luthien_guard.wire.chunks import BodyDecoder, StreamDecoder
from luthien_guard.wire.format import Block, Piece, PieceKind, ReadChunk, WireFormat

Rule = Callable[[Block], None]
read_all = read_by


def chunks_of(body: bytes, *, stream: bool, step: int | None = None) -> list[Chunk]:
    decoder = StreamDecoder(max_event_bytes=1 << 24) if stream else BodyDecoder(max_bytes=1 << 26)
    step = step or max(len(body), 1)
    found: list[Chunk] = []
    for at in range(0, len(body), step):
        found += decoder.feed(body[at : at + step])
    return found + decoder.close()


def blocks_of(read: list[ReadChunk]) -> list[Block]:
    found: dict[int, Block] = {}
    for chunk in read:
        for piece in chunk.pieces:
            if piece.block is not None:
                found.setdefault(id(piece.block), piece.block)
    return list(found.values())


def rewrite(read: list[ReadChunk], change: Callable[[str], str], channel: str = "content") -> None:
    """Change the text of every delta of the channel, and say so in the blocks, as the engine does."""
    for piece in _pieces(read):
        block = piece.block
        if block is None or block.kind != "text":
            continue
        if piece.kind is PieceKind.DELTA:
            text = change(piece.text) if block.channel == channel and block.writable else piece.text
            if text != piece.text:
                piece.out, block.changed = text, True
            block.released.append(text)


def keep_calls(read: list[ReadChunk]) -> None:
    for piece in _pieces(read):
        if piece.block is not None and piece.block.kind == "call" and piece.kind is PieceKind.DELTA:
            piece.block.released.append(piece.text)


def remove_calls(
    read: list[ReadChunk], replacement: str | None = "blocked", only: Callable[[Block], bool] = lambda _: True
) -> None:
    for block in blocks_of(read):
        if block.kind == "call" and only(block):
            block.removed, block.replacement = True, replacement


def write_all(format: WireFormat, read: list[ReadChunk], *, stream: bool, one_by_one: bool = False) -> bytes:
    writer = format.writer(stream=stream, model="m", call_id="0190-test")
    if one_by_one:
        return b"".join(raw for chunk in read for raw, _ in writer.write([chunk]))
    return b"".join(raw for raw, _ in writer.write(read))


def _pieces(read: list[ReadChunk]) -> list[Piece]:
    return [piece for chunk in read for piece in chunk.pieces]
