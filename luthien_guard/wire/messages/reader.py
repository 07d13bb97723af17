"""Reads a stream of Messages events.

A wire block is keyed by upstream's index. Where clients would differ about what belongs together (a delta after the
stop, without a start, of another type than its block), the text becomes a block of its own, and the writer gives it a
start and an index of its own: so every client assembles what the policies saw. What some clients skip never comes
between two parts of a block, or they would put together what the policies saw apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from luthien_guard.events import Chunk
from luthien_guard.wire.foreign import left_out, of_no_kind
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.indices import leaves_as, strings_only
from luthien_guard.wire.json_text import DELETE, dumps, value_at
from luthien_guard.wire.messages.blocks import (
    Aside,
    Latest,
    Place,
    begin,
    beside,
    call_kind,
    citations,
    envelope,
    is_known,
    read_on,
    wire_key,
)
from luthien_guard.wire.messages.message import read_message, read_stop, read_usage
from luthien_guard.wire.strings import opaque

__all__ = ["StreamReader", "event_kind", "read_error"]

_SUMMARY: Final = "compaction_delta"
#: Deltas: the field with the text, and the channel of the text block that it continues ("" for a call's arguments).
_DELTAS: Final = {
    "text_delta": ("text", "content"),
    "thinking_delta": ("thinking", "reasoning"),
    "input_json_delta": ("partial_json", ""),
    _SUMMARY: ("content", "content"),
}
#: Members that some clients take for text whatever the type of the delta is.
_FIELDS: Final = ("text", "thinking", "partial_json")
#: Deltas that the format knows: whatever else is in them, nobody takes it for the arguments of a call.
_KNOWN: Final = ("citations_delta", "signature_delta", *_DELTAS)
#: Which deltas go on with a block that is no call.
_GOES_ON: Final = {"text": "text_delta", "thinking": "thinking_delta", "compaction": _SUMMARY}
_TEXT: Final[Path] = ("delta", "text")
_DELTA, _START, _STOP = PieceKind.DELTA, PieceKind.START, PieceKind.STOP


def event_kind(chunk: Chunk) -> Any:
    """The type of an event: some clients go by its JSON, others by the frame's name. They agree, or one is missing."""
    kind = chunk.data.get("type")
    return kind if isinstance(kind, str) else chunk.event


class StreamReader:
    """Implements `Reader` for `stream: true`."""

    __slots__ = ("_begun", "_closed", "_ended", "_latest", "_made", "_open", "id", "model", "unknown")

    repeats = True

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""
        self._open: dict[Any, Block | None] = {}  # None: neither text nor call
        self._closed: dict[Any, Block] = {}
        self._latest: Latest = {}
        self._begun = False
        self._ended = False
        self._made = 0

    def read(self, chunk: Chunk) -> list[Piece]:
        data = chunk.data
        pieces: list[Piece] = []
        self.unknown = ""
        if type(data) is not dict:
            if chunk.kind != "done":
                self.unknown = of_no_kind(data, "an event that is no object")
                opaque(data, (), pieces)
            return pieces
        if data.get("type") == "content_block_delta":
            if (plain := self._plain(data)) is not None:
                return plain
            self._delta(data, pieces)
        else:
            self._event(chunk, data, pieces)
        self.unknown = self.unknown or left_out(pieces)
        return pieces

    def _plain(self, data: dict[str, Any]) -> list[Piece] | None:
        """The hot path: text for an open text block and nothing else."""
        delta, key = data.get("delta"), data.get("index")
        if len(data) != 3 or type(delta) is not dict or len(delta) != 2 or type(key) is not int:
            return None
        text, block = delta.get("text"), self._open.get(key)
        if type(text) is not str or block is None or block.codec.delta != "text_delta":
            return None
        if delta.get("type") != "text_delta":
            return None
        block.source.append(text)
        return [Piece(_DELTA, block=block, path=_TEXT, text=text)]

    def _event(self, chunk: Chunk, data: dict[str, Any], pieces: list[Piece]) -> None:
        kind = event_kind(chunk)
        read = self._EVENTS.get(kind)
        if read is None:
            self.unknown = of_no_kind(data, f"event type {kind!r}"[:200])
            opaque(data, (), pieces)
            strings_only(data, "type", (), DELETE, pieces)
            if isinstance(delta := data.get("delta"), dict):  # there are clients that look at nothing else
                _unsay(delta, "", pieces)
            return
        read(self, data, pieces)
        if kind != data.get("type"):
            self.unknown = "an event without a type"
            opaque(data.get("type"), ("type",), pieces)
            pieces.append(leaves_as(("type",), kind))  # some clients go by it, some by the frame's name

    def close(self) -> list[Piece]:
        pieces: list[Piece] = []
        self._stop_all(pieces, closed=self._ended)
        return pieces

    def _stop_all(self, pieces: list[Piece], *, closed: bool = True) -> None:
        for key in list(self._open):
            self._stop(key, pieces, closed=closed)

    def _stop(self, key: Any, pieces: list[Piece], *, closed: bool = True) -> None:
        block = self._open.pop(key, None)
        if block is not None:
            block.closed = closed
            self._closed[key] = block
            pieces.append(Piece(_STOP, block=block))

    def _number(self) -> int:
        self._made += 1
        return self._made - 1

    # -- events --------------------------------------------------------------------------------------------------------

    def _message_start(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        if self._begun:  # some clients ignore it, some begin anew: it does not leave
            self.unknown = "a second message_start"
            opaque(data, (), pieces)
            return
        self._begun = True
        self._stop_all(pieces)
        message = data.get("message")
        envelope(data, (), pieces, names=("type",), skip=("message",) if isinstance(message, dict) else ())
        if not isinstance(message, dict):
            return
        id, model, content = message.get("id"), message.get("model"), message.get("content")
        self.id, self.model = id if isinstance(id, str) else "", model if isinstance(model, str) else ""
        self.unknown = read_message(
            message, ("message",), pieces, lambda path: dumps(value_at(data, path)), self._latest, self._made
        )
        self._made += len(content) if isinstance(content, list) else 0

    def _block_start(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        raw, key = data.get("content_block"), wire_key(data.get("index"))
        self._stop(key, pieces)  # a start where no stop was
        envelope(data, (), pieces, names=("type",), skip=("content_block",))
        if not isinstance(raw, dict):
            opaque(raw, ("content_block",), pieces)
            self.unknown = "a content block that is no object"
            self._open[key] = None
            return
        kind = raw.get("type")
        if not (is_known(kind) or call_kind(kind)):
            self.unknown = f"block type {kind!r}"[:200]
        made: list[Piece] = []
        block = begin(raw, ("content_block",), self._number(), made, lambda path: dumps(value_at(data, path)))
        if block is not None:
            self._read_on(block, pieces)
            _forget_empty_input(block, made)
            went_on = _GOES_ON.get(kind if type(kind) is str else "", "input_json_delta")
            is_odd = block.kind == "text" and not is_known(kind)
            whole = bool(block.source) and block.kind == "call"
            block.codec = Aside(key) if is_odd else Place(key, went_on, whole=whole)
        self._open[key] = block
        pieces += made

    def _read_on(self, block: Block, pieces: list[Piece]) -> None:
        """Clients join texts in the order in which they begin, or in which they are said: so one ends where the next
        begins."""
        before = self._latest.get(block.channel) if block.kind == "text" else None
        if before is not None and before.codec is not None and not before.closed:
            self._stop(before.codec.key, pieces)
        read_on(block, self._latest)

    def _delta(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        delta, key = data.get("delta"), data.get("index")
        if len(data) != 3 or type(key) is not int or "delta" not in data:
            key = wire_key(key)
            envelope(data, (), pieces, names=("type",), skip=("delta",))
        if type(delta) is not dict:
            opaque(delta, ("delta",), pieces)
            self.unknown = "a delta that is no object"
            return
        kind: Any = delta.get("type")
        known = _DELTAS.get(kind) if type(kind) is str else None
        if known is None or type(text := delta.get(known[0])) is not str:
            self._other_delta(kind, delta, key, pieces)
            return
        field, channel = known
        block = self._open.get(key)
        if block is None or not _continues(block, kind, text):
            if kind == _SUMMARY:
                self._other_delta(kind, delta, key, pieces)
                return
            block = self._orphan(key, kind, channel, pieces)
        if text:
            block.source.append(text)
        pieces.append(Piece(_DELTA, block=block, path=("delta", field), text=text))
        if len(delta) != 2:
            envelope(delta, ("delta",), pieces, names=(), skip=("type", field))
            _unsay(delta, field, pieces)

    def _orphan(self, key: Any, kind: str, channel: str, pieces: list[Piece]) -> Block:
        """A block of its own for text that has no block, or whose block is closed or of another type."""
        self._stop(key, pieces)
        number, before = self._number(), self._closed.get(key)
        if channel:
            made = Block("text", index=number, channel="content" if channel == "content" else "reasoning")
            made.writable = channel == "content"
        else:
            # an id that is used twice bricks the session at the next request
            made = Block("call", index=number, id=f"toolu_{number:024d}")
            made.name = before.name if before is not None else ""
        self._read_on(made, pieces)
        made.codec = Place(key, kind)
        self._open[key] = made
        pieces.append(Piece(_START, block=made, text=made.name))
        return made

    def _other_delta(self, kind: Any, delta: dict[str, Any], key: Any, pieces: list[Piece]) -> None:
        block = self._open.get(key)
        if kind == "citations_delta":
            citations(delta.get("citation"), ("delta", "citation"), block.index if block else 0, pieces)
            envelope(delta, ("delta",), pieces, names=("type",), skip=("citation",))
            _unsay(delta, "", pieces)
            return
        if kind not in ("signature_delta", _SUMMARY):
            self.unknown = f"delta type {kind!r}"[:200]
        if block is not None and block.kind == "call" and kind not in _KNOWN and delta.keys() != {"type"}:
            beside(block, delta, ("delta",), pieces)
        is_odd = (
            key in self._open and (block is None or isinstance(block.codec, Aside)) and kind not in _KNOWN
        )
        said = self._odd_text(delta, key, pieces) if is_odd else ()
        envelope(delta, ("delta",), pieces, names=("type",), skip=said)
        # Some clients would join its members to a text; in a block of an unknown type nobody does.
        if not is_odd:
            _unsay(delta, "", pieces)
        if kind == _SUMMARY:  # Vercel's SDK takes it for more of any text
            if delta.get("content") is not None:
                self.unknown = "a part of a summary outside of one"
                pieces.append(leaves_as(("delta", "content"), DELETE))
        elif (
            type(kind) is str and kind in _DELTAS
        ):  # a known delta with something other than a string for its text
            pieces.append(leaves_as(("delta", _DELTAS[kind][0]), ""))

    def _odd_text(self, delta: dict[str, Any], key: Any, pieces: list[Piece]) -> tuple[str, ...]:
        """The text of a delta that nobody knows, of a block that nobody knows. Gives where it stood."""
        text = delta.get("text")
        if not text or type(text) is not str:
            return ()
        block = self._open[key]
        if block is None:
            block = Block("text", index=self._number(), writable=False)
            block.codec = Aside(key)
            self._read_on(block, pieces)
            self._open[key] = block
            pieces.append(Piece(_START, block=block))
        block.source.append(text)
        pieces.append(Piece(_DELTA, block=block, path=_TEXT, text=text))
        # With a second piece no frame counts as a mere repeat of another: each is noted, and asked about.
        pieces.append(Piece(_DELTA, block=block, path=_TEXT))
        return ("text",)

    def _block_stop(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        envelope(data, (), pieces, names=("type",))
        self._stop(wire_key(data.get("index")), pieces)

    def _message_delta(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        self._ended = True
        self._stop_all(pieces)
        delta = data.get("delta")
        if isinstance(delta, dict):
            read_stop(delta, ("delta",), pieces)
            envelope(delta, ("delta",), pieces, names=("stop_reason",))
        else:
            opaque(delta, ("delta",), pieces)
        read_usage(data, (), pieces)
        envelope(data, (), pieces, names=("type",), skip=("delta", "usage"))

    def _message_stop(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        self._ended = True
        self._stop_all(pieces)
        envelope(data, (), pieces, names=("type",))
        pieces.append(Piece(PieceKind.END))

    def _ping(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        envelope(data, (), pieces, names=("type",))

    def _error(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        read_error(data, pieces)

    _EVENTS: ClassVar[dict[Any, Callable[[StreamReader, dict[str, Any], list[Piece]], None]]] = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_delta": _delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
        "ping": _ping,
        "error": _error,
    }


def read_error(data: dict[str, Any], pieces: list[Piece]) -> None:
    """An error object, in a stream or as a body. Bedrock puts the message outside."""
    error = data.get("error")
    holder, path = (error, ("error",)) if isinstance(error, dict) else (data, ())
    message = holder.get("message")
    text = message if isinstance(message, str) else "an error without a message"
    pieces.append(Piece(PieceKind.FAILED, path=(*path, "message"), text=text))
    read = ("message",) if isinstance(message, str) else ()
    envelope(holder, path, pieces, names=("type", "code"), skip=read)
    if holder is not data:
        envelope(data, (), pieces, names=("type", "request_id"), skip=("error",))


def _continues(block: Block, kind: str, text: str) -> bool:
    # after an input in the start, some clients append the deltas and some start over
    return bool(block.codec.delta == kind and not (text and block.codec.whole))


def _unsay(delta: dict[str, Any], said: str, pieces: list[Piece]) -> None:
    """What some clients would take for text, beside the text that was read (at `said`), does not leave."""
    pieces.extend(leaves_as(("delta", each), DELETE) for each in _FIELDS if each in delta and each != said)


def _forget_empty_input(block: Block, pieces: list[Piece]) -> None:
    """In a start `input: {}` says that deltas follow, or none: it is not yet the arguments."""
    if block.kind == "call" and block.source == ["{}"]:
        block.source.clear()
        pieces[:] = [piece for piece in pieces if not (piece.block is block and piece.kind is _DELTA)]
