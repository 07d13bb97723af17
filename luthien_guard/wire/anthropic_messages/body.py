"""A message that is not streamed: one body, read and written whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthien_guard.events import Chunk
from luthien_guard.wire.anthropic_messages import made
from luthien_guard.wire.anthropic_messages.changes import content_changes, sections_of, text_block
from luthien_guard.wire.anthropic_messages.fields import Fields, json_of
from luthien_guard.wire.anthropic_messages.grammar import check_body
from luthien_guard.wire.format import Piece, PieceKind, ReadChunk
from luthien_guard.wire.json_text import dumps
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
        fields = Fields()
        kind = data.get("type") if isinstance(data, dict) else None
        if not isinstance(data, dict):
            self.unknown = "a body that is no object" if chunk.raw.strip() else ""
            opaque(data, (), pieces)
        elif kind == "message" or isinstance(data.get("content"), list):
            self._name(data)
            fields.message(data, (), chunk, pieces)
            self.unknown = fields.unknown
        elif kind == "error" or "error" in data or isinstance(data.get("message"), str):
            _error(data, fields, pieces)
        else:
            self.unknown = f"a body of type {str(kind)[:40]!r}"
            opaque(data, (), pieces)
        return pieces

    def _name(self, data: dict[str, Any]) -> None:
        for key in ("id", "model"):
            value = data.get(key)
            setattr(self, key, value if isinstance(value, str) else "")


def _error(data: dict[str, Any], fields: Fields, pieces: list[Piece]) -> None:
    """The provider's errors, and those of the clouds that host it: `{"message": "..."}`."""
    rest = {key: value for key, value in data.items() if key not in ("type", "error", "request_id")}
    if "error" in data:
        fields.error(data["error"], ("error",), pieces)
    elif isinstance(rest.get("message"), str):
        pieces.append(Piece(PieceKind.FAILED, path=("message",), text=rest.pop("message")))
    for key in ("type", "request_id"):
        fields.identifier(data.get(key), (key,), pieces)
    opaque(rest, (), pieces)


class BodyWriter:
    """Implements `Writer` for a body."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._call_id = call_id
        self.finished = False

    def write(self, chunks: Sequence[ReadChunk]) -> list[tuple[bytes, int | None]]:
        out: list[tuple[bytes, int | None]] = []
        for read in chunks:
            chunk = read.chunk
            if not chunk.raw:
                continue
            self.finished = True
            if read.source is None and chunk.kind == "body":
                check_body(chunk.data)
            sections = sections_of(read.pieces)
            changes = content_changes(json_of(chunk), read.pieces, sections) if sections else {}
            out.append((patch_chunk(chunk, changes), None) if changes else (chunk.raw, read.source))
        return out

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        self.finished = True
        content = [text_block(message)] if message else []
        body = made.message(f"msg_{self._call_id}", self._model, content, "end_turn", made.counts(usage))
        return dumps(body).encode()

    def fail(self, status: int, code: str, message: str) -> bytes:
        self.finished = True
        return dumps(made.error_body(status, code, message)).encode()
