"""What a codec reads: every string accounted for, in blocks that begin, speak and stop once, whatever the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from luthien_guard.events import Chunk
from luthien_guard.testing.format_check.codec import check, chunks_of, pieces_of, read_by
from luthien_guard.testing.format_check.places import rebuilt, short, string_paths, with_text
from luthien_guard.wire.format import Block, Piece, PieceKind, WireFormat

__all__ = ["check_accounted", "check_blocks", "check_strange"]

#: Does not look like an identifier, so it is text wherever it stands.
_MARKER = "⚑ marker ⚑"

_STRANGE: tuple[Any, ...] = ({}, [], None, 0, "text", {"choices": 1}, {"content": {}}, {"output": [None]}, {"type": []},
                             {"choices": [{"delta": {"content": {}}}]}, {"delta": {"text": []}}, {"error": "x"})  # fmt: skip

_TYPES = (
    "message",
    "message_start",
    "content_block_delta",
    "response.completed",
    "response.output_item.done",
    "x",
)


def check_blocks(format: WireFormat, body: bytes, *, stream: bool) -> None:
    lives = _Lives()
    for piece in pieces_of(read_by(format, chunks_of(body, stream=stream), stream=stream)):
        if piece.block is not None:
            lives.take(piece, piece.block)
    lives.end()


class _Lives:
    """What each block has said so far, and which have stopped."""

    def __init__(self) -> None:
        self._said: dict[int, list[str]] = {}
        self._stopped: set[int] = set()
        self._alive: list[Block] = []  # keeps ids unique

    def take(self, piece: Piece, block: Block) -> None:
        self._alive.append(block)
        key, said, stopped = id(block), self._said, self._stopped
        if piece.kind is PieceKind.START:
            check(key not in said, f"a block starts twice: {piece}")
            said[key] = []
        elif piece.kind is PieceKind.DELTA:
            check(key in said, f"a delta before its block's start: {piece}")
            check(key not in stopped, f"a delta after its block's stop: {piece}")
            said[key].append(piece.text)
        elif piece.kind is PieceKind.STOP:
            check(key in said and key not in stopped, f"a stop without a start, or a second one: {piece}")
            stopped.add(key)
        elif piece.kind is PieceKind.ECHO:
            check(piece.text == "".join(said.get(key, [])), f"an echo says other than its block: {piece}")

    def end(self) -> None:
        for block in self._alive:
            said = "".join(self._said.get(id(block), []))
            check(block.text == said, f"block.source is not what the deltas said: {block.text!r}")
            check(id(block) in self._stopped, f"a block never stops: {block.text!r}")


def check_accounted(format: WireFormat, body: bytes, *, stream: bool) -> None:
    """Put a marker in the place of each string, one after the other: some piece must show it."""
    chunks = chunks_of(body, stream=stream)
    for at, chunk in enumerate(chunks):
        for what, marked in _marked(chunk.data):
            changed = [*chunks[:at], rebuilt(chunk, marked), *chunks[at + 1 :]]
            pieces = list(pieces_of(read_by(format, changed, stream=stream)))
            shown = any(map(_shows, pieces))
            check(shown, f"{what} of {short(chunk.data)} can say anything: no piece shows it")


def _marked(data: Any) -> Iterator[tuple[str, Any]]:
    for path in string_paths(data):
        yield f"the string at {path}", with_text(data, path, _MARKER)
    if isinstance(data, dict):
        yield "an unknown field", {**data, "x_future": {"deep": [_MARKER]}}


def _shows(piece: Piece) -> bool:
    """A policy can see the marker: as text, or as the name or id of a call."""
    said = (piece.text, str(piece.value), *((piece.block.name, piece.block.id) if piece.block else ()))
    return any(_MARKER in each for each in said)


def check_strange(format: WireFormat, *, stream: bool) -> None:
    for value in _STRANGE:
        for kind in (None, *_TYPES):
            data = {**value, "type": kind} if isinstance(value, dict) and kind else value
            raw = json.dumps(data).encode()
            chunk = Chunk("data", b"data: " + raw + b"\n\n", data) if stream else Chunk("body", raw, data)
            try:
                read_by(format, [chunk, chunk], stream=stream)
            except Exception as error:
                raise AssertionError(f"{format.name}: reading {data!r} raised {error!r}") from error
