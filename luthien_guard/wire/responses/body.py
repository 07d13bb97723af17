"""A response that is not streamed, written whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthien_guard.wire.format import Block, ReadChunk
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.responses.changes import NO_UNICODE, changes_of, illegal
from luthien_guard.wire.responses.items import Item
from luthien_guard.wire.responses.made import blank_response, error_body, message_item, usage_of
from luthien_guard.wire.responses.splice import spliced

__all__ = ["BodyWriter", "StandIns"]


class StandIns:
    """The messages that stand where removed calls stood: one for each item, the same wherever it is repeated."""

    def __init__(self, call_id: str) -> None:
        self._call_id = call_id
        self._made: dict[int, dict[str, Any]] = {}
        self._count = 0

    def __call__(self, item: Item, block: Block) -> dict[str, Any] | None:
        if block.replacement is None:
            return None
        if item.index not in self._made:
            self._made[item.index] = self.message(block.replacement)
        return self._made[item.index]

    def message(self, text: str) -> dict[str, Any]:
        self._count += 1
        return message_item(f"msg_{self._call_id}_{self._count}", text)


class BodyWriter:
    """Implements `Writer` for a body."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._call_id = call_id
        self._stand_ins = StandIns(call_id)
        self.finished = False

    def write(self, chunks: Sequence[ReadChunk]) -> list[tuple[bytes, int | None]]:
        out: list[tuple[bytes, int | None]] = []
        for read in chunks:
            if read.chunk.raw:
                changes = changes_of(read.pieces, self._stand_ins)
                try:
                    out.append(
                        (spliced(read.chunk, changes), None) if changes else (read.chunk.raw, read.source)
                    )
                except UnicodeEncodeError:
                    raise illegal(NO_UNICODE) from None
                self.finished = True
        return out

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        self.finished = True
        body = blank_response(f"resp_{self._call_id}", self._model)
        body.update(status="completed", output=[self._stand_ins.message(message)], usage=usage_of(usage))
        return dumps(body).encode()

    def fail(self, status: int, code: str, message: str) -> bytes:
        self.finished = True
        return dumps(error_body(status, code, message)).encode()
