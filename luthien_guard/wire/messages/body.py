"""A message that is not streamed: one body, read and written whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthien_guard.errors import IllegalOutput
from luthien_guard.events import Chunk
from luthien_guard.wire.foreign import left_out, no_answer, of_no_kind
from luthien_guard.wire.format import Piece, ReadChunk
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.messages.elements import Elements
from luthien_guard.wire.messages.made import error_of, message_of
from luthien_guard.wire.messages.message import changes_of, read_message
from luthien_guard.wire.messages.reader import read_error
from luthien_guard.wire.splice import patch_data
from luthien_guard.wire.strings import opaque

__all__ = ["BodyReader", "BodyWriter"]


class BodyReader:
    """Implements `Reader` for a body."""

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""

    def read(self, chunk: Chunk) -> list[Piece]:
        data = chunk.data
        pieces: list[Piece] = []
        if not isinstance(data, dict):
            self.unknown = of_no_kind(data, "a body that is no object") if chunk.raw.strip() else ""
            opaque(data, (), pieces)
        elif "content" not in data and (
            data.get("error") is not None or isinstance(data.get("message"), str)
        ):
            read_error(data, pieces)
        else:
            # also with an `error` beside the content: clients that go by the status read the content
            self._message(data, chunk, pieces)
            if "content" not in data:
                self.unknown = no_answer(data, pieces) or self.unknown
        self.unknown = self.unknown or left_out(pieces)
        return pieces

    def _message(self, data: dict[str, Any], chunk: Chunk, pieces: list[Piece]) -> None:
        id, model = data.get("id"), data.get("model")
        self.id, self.model = id if isinstance(id, str) else "", model if isinstance(model, str) else ""
        elements = Elements(chunk.raw.decode(), ("content",))
        self.unknown = read_message(data, (), pieces, elements.slice, {})

    def close(self) -> list[Piece]:
        return []


class BodyWriter:
    """Implements `Writer` for a body."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._id = f"msg_{call_id}"
        self.finished = False

    def write(self, chunks: Sequence[ReadChunk]) -> list[tuple[bytes, int | None]]:
        out: list[tuple[bytes, int | None]] = []
        for read in chunks:
            chunk = read.chunk
            if not chunk.raw:
                continue
            self.finished = True
            if read.source is None and chunk.kind == "body":
                _check(chunk.data)
            changes = changes_of(chunk.raw.decode(), chunk.data, (), read.pieces) if read.pieces else {}
            out.append((patch_data(chunk, changes), None) if changes else (chunk.raw, read.source))
        return out

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        if self.finished:
            return b""
        self.finished = True
        return dumps(message_of(self._id, self._model, usage, message)).encode()

    def fail(self, status: int, code: str, message: str) -> bytes:
        if self.finished:
            return b""
        self.finished = True
        return dumps(error_of(status, message)).encode()


def _check(data: Any) -> None:
    """What a policy made must be something that a client can read."""
    if not isinstance(data, dict):
        raise IllegalOutput("anthropic.messages: a body that is no object", policy="", hook="")
    content = data.get("content", [])
    if not isinstance(content, list) or not all(
        isinstance(each, dict) and "type" in each for each in content
    ):
        raise IllegalOutput("anthropic.messages: content that is no list of blocks", policy="", hook="")
    types = [each["type"] for each in content]
    if "tool_use" in types and any(each != "tool_use" for each in types[types.index("tool_use") :]):
        raise IllegalOutput("anthropic.messages: a block that is no call after a call", policy="", hook="")
    if data.get("stop_reason") == "tool_use" and "tool_use" not in types:
        raise IllegalOutput("anthropic.messages: stop_reason tool_use without a call", policy="", hook="")
    if data.get("type") == "message" and not isinstance(data.get("usage"), dict):
        raise IllegalOutput("anthropic.messages: a message without usage", policy="", hook="")
