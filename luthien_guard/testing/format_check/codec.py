"""A codec at work on a sample, as the engine uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from luthien_guard.events import Chunk
from luthien_guard.wire.chunks import BodyDecoder, StreamDecoder
from luthien_guard.wire.format import Piece, PieceKind, ReadChunk, WireFormat, Writer

__all__ = ["check", "chunks_of", "keep_all", "pieces_of", "read_by", "writer_of", "written_by"]


def chunks_of(body: bytes, *, stream: bool) -> list[Chunk]:
    decoder = StreamDecoder(max_event_bytes=1 << 24) if stream else BodyDecoder(max_bytes=1 << 26)
    return [*decoder.feed(body), *decoder.close()]


def read_by(format: WireFormat, chunks: Iterable[Chunk], *, stream: bool) -> list[ReadChunk]:
    """Every chunk with its pieces; those of the end hang on a chunk of no bytes."""
    reader = format.reader(stream=stream)
    read = [
        ReadChunk(chunk, reader.read(chunk) if chunk.kind in ("data", "body", "done") else [], at)
        for at, chunk in enumerate(chunks)
    ]
    tail = reader.close()
    return [*read, ReadChunk(Chunk("comment", b""), tail)] if tail else read


def pieces_of(read: Iterable[ReadChunk]) -> Iterator[Piece]:
    for each in read:
        yield from each.pieces


def keep_all(read: Iterable[ReadChunk]) -> None:
    """Decide as the engine does when nobody objects."""
    for piece in pieces_of(read):
        if piece.kind is PieceKind.DELTA and piece.block is not None:
            piece.block.released.append(piece.text)


def written_by(format: WireFormat, read: Sequence[ReadChunk], *, stream: bool) -> bytes:
    return b"".join(raw for raw, _ in writer_of(format, stream=stream).write(read))


def writer_of(format: WireFormat, *, stream: bool) -> Writer:
    return format.writer(stream=stream, model="sample", call_id="0199-sample")


def check(true: bool, message: str) -> None:
    if not true:
        raise AssertionError(message)
