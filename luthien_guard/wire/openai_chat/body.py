"""Writes a chat completion that is not streamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthien_guard.errors import IllegalOutput
from luthien_guard.wire.format import ReadChunk
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.openai_chat.changes import ChoiceOut, changes_of, is_touched
from luthien_guard.wire.openai_chat.made import completion, error_of
from luthien_guard.wire.splice import patch_chunk

__all__ = ["BodyWriter"]


class BodyWriter:
    """Implements `Writer` for a body: one chunk, which leaves once."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._call_id = call_id
        self.finished = False

    def write(self, chunks: Sequence[ReadChunk]) -> list[tuple[bytes, int | None]]:
        out: list[tuple[bytes, int | None]] = []
        for read in chunks:
            if not read.chunk.raw:
                continue
            if self.finished and read.source is None:
                raise IllegalOutput("openai.chat: a second body", policy="", hook="")
            self.finished = True
            changes = {}
            if is_touched(read.pieces):
                states: dict[int, ChoiceOut] = {}
                changes = changes_of(read, states, "call_" + self._call_id.replace("-", "")[-12:])
            out.append((patch_chunk(read.chunk, changes), None) if changes else (read.chunk.raw, read.source))
        return out

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        if self.finished:
            return b""
        self.finished = True
        return dumps(completion(self._call_id, self._model, message, usage)).encode()

    def fail(self, status: int, code: str, message: str) -> bytes:
        if self.finished:
            return b""
        self.finished = True
        return dumps(error_of(status, code, message)).encode()
