"""Reads a stream of Messages events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from luthien_guard.events import Chunk
from luthien_guard.wire.anthropic.blocks import begin, citation, identifier, known_type
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.strings import opaque

__all__ = ["StreamReader", "read_message"]

#: Deltas: the field with the text, and the kind of block that it continues.
_DELTAS: Final = {
    "text_delta": ("text", "content"),
    "thinking_delta": ("thinking", "reasoning"),
    "input_json_delta": ("partial_json", "call"),
}
_PLAIN: Final = frozenset({"type", "text"})
_EVENT: Final = frozenset({"type", "index", "delta"})


class StreamReader:
    """Implements `Reader` for `stream: true`."""

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""
        self._open: dict[Any, Block | None] = {}
        self._closed: dict[Any, Block] = {}
        self._ended = False
        self._made = 0

    def read(self, chunk: Chunk) -> list[Piece]:
        data = chunk.data
        self.unknown = ""
        pieces: list[Piece] = []
        if chunk.kind == "done":
            return pieces
        if type(data) is not dict:
            self.unknown = "an event that is no object"
            opaque(data, (), pieces)
            return pieces
        kind = data.get("type")
        if kind == "content_block_delta":
            self._delta(data, pieces)
            return pieces
        read = _EVENTS.get(kind) if isinstance(kind, str) else None
        if read is None:
            self.unknown = f"event type {kind!r}"[:200]
            opaque(data, (), pieces)
        else:
            read(self, data, pieces)
        return pieces

    def close(self) -> list[Piece]:
        return self._stops(closed=self._ended)

    def _stops(self, *, closed: bool) -> list[Piece]:
        found = []
        for index, block in self._open.items():
            if block is not None:
                block.closed = closed
                self._closed[index] = block
                found.append(Piece(PieceKind.STOP, block=block))
        self._open = {}
        return found

    # -- events --------------------------------------------------------------------------------------------------------

    def _start(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        message = data.get("message")
        if isinstance(message, dict):
            self.id = str(message.get("id") or "")
            self.model = str(message.get("model") or "")
            read_message(message, ("message",), pieces, lambda path: dumps(_at(data, path)))
        else:
            opaque(message, ("message",), pieces)
        _rest(data, ("type", "message"), pieces)

    def _block_start(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        raw, index = data.get("content_block"), data.get("index")
        _rest(data, ("type", "index", "content_block"), pieces)
        key = _key(index, pieces)
        if not isinstance(raw, dict):
            opaque(raw, ("content_block",), pieces)
            return
        if not known_type(raw.get("type")):
            self.unknown = f"block type {raw.get('type')!r}"[:200]
        if (left := self._open.pop(key, None)) is not None:  # a start where no stop was
            left.closed = True
            pieces.append(Piece(PieceKind.STOP, block=left))
        self._closed.pop(key, None)
        number, self._made = self._made, self._made + 1
        self._open[key] = begin(raw, ("content_block",), number, pieces, lambda path: dumps(_at(data, path)))

    def _delta(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        delta, index = data.get("delta"), data.get("index")
        if len(data) != 3 or type(index) is not int:
            _rest(data, _EVENT, pieces)
            index = _key(index, pieces)
        if type(delta) is not dict:
            opaque(delta, ("delta",), pieces)
            return
        kind = delta.get("type")
        field, wanted = _DELTAS.get(kind, ("", "")) if type(kind) is str else ("", "")
        text = delta.get(field)
        if type(text) is not str:
            self._other_delta(kind, delta, index, pieces)
            return
        block = self._block_for(index, wanted, pieces)
        if text:
            block.source.append(text)
        pieces.append(Piece(PieceKind.DELTA, block=block, path=("delta", field), text=text))
        if len(delta) != 2:
            opaque({key: value for key, value in delta.items() if key not in ("type", field)}, ("delta",), pieces)

    def _block_for(self, index: Any, wanted: str, pieces: list[Piece]) -> Block:
        """The open block that a delta continues, or one made for it: a delta without a start, for a block of another
        kind, or for one that was closed. Clients that merge by index take the last for the rest of the closed one."""
        block = self._open.get(index)
        if block is not None and (block.kind == "call" if wanted == "call" else block.channel == wanted and block.kind == "text"):
            return block
        if block is not None:
            pieces.append(Piece(PieceKind.STOP, block=block))
            block.closed = True
        before = self._closed.get(index)
        number, self._made = self._made, self._made + 1
        if wanted == "call":
            made = Block("call", index=number, id=before.id if before else "", name=before.name if before else "")
            made.prefix = before.text if before is not None and before.kind == "call" else ""
        elif wanted == "reasoning":
            made = Block("text", index=number, channel="reasoning", writable=False)
        else:
            made = Block("text", index=number)
        self._open[index] = made
        pieces.append(Piece(PieceKind.START, block=made))
        return made

    def _other_delta(self, kind: Any, delta: dict[str, Any], index: Any, pieces: list[Piece]) -> None:
        if kind == "citations_delta":
            citation(delta.get("citation"), ("delta", "citation"), 0, pieces)
            opaque({key: value for key, value in delta.items() if key not in ("type", "citation")}, ("delta",), pieces)
            return
        if kind != "signature_delta":
            self.unknown = f"delta type {kind!r}"[:200]
        identifier(kind, ("delta", "type"), pieces)
        owner = self._open.get(index)
        before = len(pieces)
        opaque({key: value for key, value in delta.items() if key != "type"}, ("delta",), pieces)
        if owner is not None and owner.kind == "call":
            # whatever it says of the call, the call's policy has to see it
            text = dumps(delta)
            owner.source.append(text)
            pieces.insert(before, Piece(PieceKind.DELTA, block=owner, path=("delta",), text=text, is_json=True))

    def _block_stop(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        key = _key(data.get("index"), pieces)
        block = self._open.pop(key, None)
        if block is not None:
            block.closed = True
            self._closed[key] = block
            pieces.append(Piece(PieceKind.STOP, block=block))
        _rest(data, ("type", "index"), pieces)

    def _message_delta(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        self._ended = True
        pieces += self._stops(closed=True)
        delta = data.get("delta")
        if isinstance(delta, dict):
            _stop_reason(delta, ("delta",), pieces)
            opaque({key: value for key, value in delta.items() if key != "stop_reason"}, ("delta",), pieces)
        else:
            opaque(delta, ("delta",), pieces)
        _usage(data, (), pieces)
        _rest(data, ("type", "delta", "usage"), pieces)

    def _message_stop(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        self._ended = True
        pieces += self._stops(closed=True)
        _rest(data, ("type",), pieces)
        pieces.append(Piece(PieceKind.END))

    def _ping(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        _rest(data, ("type",), pieces)

    def _error(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        failed(data, pieces)


_EVENTS: Final[dict[str, Callable[[StreamReader, dict[str, Any], list[Piece]], None]]] = {
    "message_start": StreamReader._start,
    "content_block_start": StreamReader._block_start,
    "content_block_stop": StreamReader._block_stop,
    "message_delta": StreamReader._message_delta,
    "message_stop": StreamReader._message_stop,
    "ping": StreamReader._ping,
    "error": StreamReader._error,
}


def read_message(
    message: dict[str, Any], path: Path, pieces: list[Piece], slice_of: Callable[[Path], str], *, whole: bool = False
) -> None:
    """The pieces of a message object: the whole answer in a body, an empty beginning in `message_start`."""
    for key in ("id", "type", "role", "model"):
        identifier(message.get(key), (*path, key), pieces)
    content = message.get("content")
    for at, raw in enumerate(content if isinstance(content, list) else ()):
        place = (*path, "content", at)
        if not isinstance(raw, dict):
            opaque(raw, place, pieces)
            continue
        block = begin(raw, place, at, pieces, slice_of)
        if block is not None:
            block.closed = True
            pieces.append(Piece(PieceKind.STOP, block=block, owner=place if block.kind == "call" else ()))
    if not isinstance(content, list):
        opaque(content, (*path, "content"), pieces)
    _stop_reason(message, path, pieces)
    _usage(message, path, pieces)
    known = ("id", "type", "role", "model", "content", "stop_reason", "usage")
    opaque({key: value for key, value in message.items() if key not in known}, path, pieces)


def failed(data: dict[str, Any], pieces: list[Piece]) -> None:
    """An error object, in a stream or as a body."""
    error = data.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    text = message if isinstance(message, str) else "an error without a message"
    pieces.append(Piece(PieceKind.FAILED, path=("error", "message"), text=text))
    opaque({key: value for key, value in data.items() if key != "type"}, (), pieces)


def _stop_reason(holder: dict[str, Any], path: Path, pieces: list[Piece]) -> None:
    reason = holder.get("stop_reason")
    identifier(reason, (*path, "stop_reason"), pieces)
    if isinstance(reason, str):
        pieces.append(Piece(PieceKind.FINISH, path=(*path, "stop_reason"), text=reason))


def _usage(holder: dict[str, Any], path: Path, pieces: list[Piece]) -> None:
    usage = holder.get("usage")
    if usage is not None:
        pieces.append(Piece(PieceKind.USAGE, path=(*path, "usage"), value=usage))
        opaque(usage, (*path, "usage"), pieces)


def _rest(data: dict[str, Any], known: Any, pieces: list[Piece]) -> None:
    if len(data) > len(known) or not all(key in known for key in data):
        opaque({key: value for key, value in data.items() if key not in known}, (), pieces)


def _key(index: Any, pieces: list[Piece]) -> Any:
    """What stands for an index; one of a wrong type is text if it is a string, and a key all the same."""
    if isinstance(index, (str, list, dict)):
        opaque(index, ("index",), pieces)
        return str(index)
    return index


def _at(data: Any, path: Path) -> Any:
    for key in path:
        data = data[key]
    return data
