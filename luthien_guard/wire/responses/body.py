"""A response that is not streamed, written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from luthien_guard.wire.format import Block, ReadChunk
from luthien_guard.wire.responses.changes import changes_of
from luthien_guard.wire.responses.made import blank_response, message_item, usage_of
from luthien_guard.wire.splice import patch_chunk

__all__ = ["BodyWriter"]


class BodyWriter:
    """Implements `Writer` for a body."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._call_id = call_id
        self._said = 0
        self.finished = False

    def write(self, chunks: Sequence[ReadChunk]) -> list[tuple[bytes, int | None]]:
        out: list[tuple[bytes, int | None]] = []
        for read in chunks:
            if read.chunk.raw:
                self.finished = True
                changes = changes_of(read.pieces, self._stand_in)
                out.append((patch_chunk(read.chunk, changes), None) if changes else (read.chunk.raw, read.source))
        return out

    def _stand_in(self, block: Block) -> dict[str, Any] | None:
        if block.replacement is None:
            return None
        if "item" not in block.codec:
            block.codec["item"] = message_item(f"msg_{self._call_id}_{self._said}", block.replacement)
            self._said += 1
        item: dict[str, Any] = block.codec["item"]
        return item

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        self.finished = True
        body = blank_response(f"resp_{self._call_id}", self._model)
        body.update(
            status="completed", output=[message_item(f"msg_{self._call_id}", message)], usage=usage_of(usage)
        )
        return json.dumps(body, ensure_ascii=False).encode()

    def fail(self, status: int, code: str, message: str) -> bytes:
        self.finished = True
        error = {"message": message, "type": "server_error", "param": None, "code": code}
        return json.dumps({"error": error}, ensure_ascii=False).encode()
