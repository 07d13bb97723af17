"""A message that is not streamed: one body, read and written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from luthien_guard.events import Chunk
from luthien_guard.wire.anthropic.reader import failed, read_message
from luthien_guard.wire.anthropic.writer import error_of, is_client_call, stop_reason_after_removal, usage_of
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.json_text import Raw, dumps, patch, slice_of
from luthien_guard.wire.splice import patch_chunk
from luthien_guard.wire.strings import opaque

__all__ = ["BodyReader", "BodyWriter"]


class BodyReader:
    """Implements `Reader` for a body."""

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""

    def close(self) -> list[Piece]:
        return []

    def read(self, chunk: Chunk) -> list[Piece]:
        data, pieces = chunk.data, list[Piece]()
        if not isinstance(data, dict):
            self.unknown = "a body that is no object" if chunk.raw.strip() else ""
            opaque(data, (), pieces)
        elif isinstance(data.get("error"), dict):
            failed(data, pieces)
        else:
            self.id, self.model = str(data.get("id") or ""), str(data.get("model") or "")
            text = chunk.raw.decode()
            read_message(data, (), pieces, lambda path: slice_of(text, path))
        return pieces


class BodyWriter:
    """Implements `Writer` for a body."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._id = f"msg_{call_id}"
        self.finished = False

    def write(self, chunks: Sequence[ReadChunk]) -> list[tuple[bytes, int | None]]:
        out: list[tuple[bytes, int | None]] = []
        for read in chunks:
            if read.chunk.raw:
                self.finished = True
                changes = _changes(read)
                out.append((patch_chunk(read.chunk, changes), None) if changes else (read.chunk.raw, read.source))
        return out

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        self.finished = True
        body = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [{"type": "text", "text": message}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage_of(usage),
        }
        return json.dumps(body, ensure_ascii=False).encode()

    def fail(self, status: int, code: str, message: str) -> bytes:
        self.finished = True
        return json.dumps(error_of(status, message), ensure_ascii=False).encode()


def _changes(read: ReadChunk) -> dict[Path, Any]:
    changes: dict[Path, Any] = {}
    calls = [p for p in read.pieces if p.kind is PieceKind.START and p.block is not None and p.block.kind == "call"]
    removed = [p.owner[-1] for p in calls if p.block is not None and p.block.removed]
    for piece in read.pieces:
        block = piece.block
        if piece.kind is PieceKind.FINISH:
            reason = stop_reason_after_removal(piece.text, removed=len(removed), kept=len(calls) - len(removed))
            if reason != piece.text:
                changes[piece.path] = reason
        elif block is None or block.removed:
            continue
        elif piece.kind is PieceKind.START and block.new_name is not None and piece.path:
            changes[piece.path] = block.new_name
        elif piece.out is not None:
            changes[piece.path] = Raw(piece.out or "{}") if piece.is_json else piece.out
    return _rebuilt(read, calls, changes) if removed else changes


def _rebuilt(read: ReadChunk, calls: list[Piece], changes: dict[Path, Any]) -> dict[Path, Any]:
    """The content list anew, element by element as it stands: explanations before the first call of the client's."""
    blocks: dict[Any, Block] = {piece.owner[-1]: piece.block for piece in calls if piece.block is not None}
    gone = {block.id for block in blocks.values() if block.removed and not is_client_call(block)}
    texts = [b.replacement for b in blocks.values() if b.removed and is_client_call(b) and b.replacement]
    raw, elements = read.chunk.raw.decode(), list[str]()
    for at, element in enumerate(read.chunk.data["content"]):
        block = blocks.get(at)
        if block is not None and is_client_call(block) and texts:
            elements.append(_text_block("\n\n".join(texts)))
            texts = []
        if block is not None and block.removed:
            if not is_client_call(block) and block.replacement:
                elements.append(_text_block(block.replacement))
            continue
        if isinstance(element, dict) and element.get("tool_use_id") in gone:
            continue
        inner = {path[2:]: value for path, value in changes.items() if path[:2] == ("content", at)}
        elements.append(patch(slice_of(raw, ("content", at)), inner))
    outer = {path: value for path, value in changes.items() if path[:1] != ("content",)}
    return {**outer, ("content",): Raw("[" + ",".join(elements) + "]")}


def _text_block(text: str) -> str:
    return dumps({"type": "text", "text": text})
