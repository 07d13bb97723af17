"""Reads a stream of Messages events.

Content blocks are kept by the index that upstream gives them. Some clients take an index as a place in the list of
blocks, others as a name: while every block begins once, in order, and ends once, that is the same. Where it is not
(a delta for a block that ended or never began, an index used twice), what comes is a block of its own here, and the
writer makes it one on the wire as well: so nobody can assemble anything that no policy saw.
"""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.events import Chunk
from luthien_guard.wire.anthropic_messages.fields import Fields, stop
from luthien_guard.wire.anthropic_messages.sections import Ended, Section
from luthien_guard.wire.format import Block, Piece, PieceKind
from luthien_guard.wire.strings import opaque

__all__ = ["StreamReader"]

_DELTA: Final = PieceKind.DELTA
_TYPE: Final = frozenset({"type"})
_START: Final = frozenset({"type", "index", "content_block"})
_CHUNK: Final = frozenset({"type", "index", "delta"})
_STOP: Final = frozenset({"type", "index"})
#: What a delta is of, where no open block tells: the content block that should have begun before it.
_BLOCK_OF: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "tool_use"}
_KEYS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
_FITS: Final = {
    "citations_delta": ("text",),
    "signature_delta": ("thinking",),
    "compaction_delta": ("compaction",),
}


class StreamReader:
    """Implements `Reader` for `stream: true`."""

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""
        self._fields = Fields()
        self._open: dict[int | None, Section] = {}  # begun and not ended, by index
        self._last: dict[int | None, Section] = {}  # the latest of each index, ended or not
        self._late: dict[tuple[int | None, str], Section] = {}  # those that upstream never began
        self._reads = {
            "message_start": self._message_start,
            "content_block_start": self._start,
            "content_block_delta": self._delta,
            "content_block_stop": self._stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "error": self._error,
            "ping": self._ping,
        }

    def read(self, chunk: Chunk) -> list[Piece]:
        self.unknown = ""
        data = chunk.data
        if type(data) is dict and len(data) == 3:
            delta = data.get("delta")
            index = data.get("index")
            if type(delta) is dict and len(delta) == 2 and type(index) is int:
                section = self._open.get(index)
                if section is not None and delta.get("type") == section.delta != "":
                    text = delta.get(section.key)
                    if type(text) is str and text and data.get("type") == "content_block_delta":
                        block = section.block
                        block.source.append(text)  # type: ignore[union-attr]
                        return [Piece(_DELTA, block=block, path=section.path, text=text, value=section)]
        return self._read(chunk)

    def close(self) -> list[Piece]:
        """Whatever is open now was cut."""
        pieces: list[Piece] = []
        self._end_all(pieces, closed=False)
        return pieces

    def _read(self, chunk: Chunk) -> list[Piece]:
        """Every event, in whatever shape."""
        pieces: list[Piece] = []
        if chunk.kind == "done":  # not part of this format; some gateways send it all the same
            return pieces
        data = chunk.data
        kind = data.get("type") if type(data) is dict else None
        read = self._reads.get(kind) if type(kind) is str else None
        if read is None:
            self.unknown = f"an event of type {str(kind)[:40]!r}"
            opaque(data, (), pieces)
            return pieces
        self._fields.unknown = ""
        read(data, chunk, pieces)
        self.unknown = self.unknown or self._fields.unknown
        return pieces

    # -- content blocks ------------------------------------------------------------------------------------------------

    def _start(self, data: dict[str, Any], chunk: Chunk, pieces: list[Piece]) -> None:
        index = _index_of(data, pieces)
        self._end_late(pieces)
        before = self._open.pop(index, None)
        if before is not None:
            _end(before, pieces)
        section = self._fields.begin(data.get("content_block"), data.get("index"), ("content_block",), chunk, pieces)
        if section.is_call and section.block.source:  # type: ignore[union-attr]
            # Its arguments stand in its start. Some clients put deltas behind them, others in their place: here more
            # arguments are another call.
            section.delta = ""
        self._open[index] = self._last[index] = section
        _rest(data, _START, pieces)

    def _delta(self, data: dict[str, Any], _chunk: Chunk, pieces: list[Piece]) -> None:
        index = _index_of(data, pieces)
        delta = data.get("delta")
        kind = delta.get("type") if type(delta) is dict else None
        section = self._find(index, kind, delta, pieces)
        block = section.block if section is not None else None
        if section is not None:
            # says whose chunk this is; what says nothing leaves or goes with its block all the same
            pieces.append(Piece(PieceKind.DERIVED, block=block, value=section))
        if type(delta) is not dict:
            opaque(delta, ("delta",), pieces)
        elif section is not None and kind == section.delta != "":
            self._said(delta, section, pieces)
        elif kind == "citations_delta":
            self._cited(delta, pieces)
        else:
            self._carried(delta, kind, pieces)
        _rest(data, _CHUNK, pieces)

    def _find(self, index: int | None, kind: Any, delta: Any, pieces: list[Piece]) -> Section | None:
        """The section that a delta belongs to; a new one where upstream has none for it, None where it can have none."""
        section = self._open.get(index)
        speaks = type(kind) is str and kind in _BLOCK_OF
        if section is not None and (not speaks or kind == section.delta or not delta.get(_KEYS[kind])):
            return section if section.kind in _FITS.get(str(kind), (section.kind,)) else None
        if not speaks or not delta.get(_KEYS[kind]):
            return None
        late = self._late.get((index, kind))
        if late is None:
            late = self._late[index, kind] = self._begin_late(index, kind, pieces)
        return late

    def _begin_late(self, index: int | None, kind: str, pieces: list[Piece]) -> Section:
        start: dict[str, Any] = {"type": _BLOCK_OF[kind]}
        if kind == "input_json_delta":
            start |= self._call_again(index)
        else:
            start |= {"text": ""} if kind == "text_delta" else {"thinking": "", "signature": ""}
        section = self._fields.section(start["type"], None, (), start)
        section.start = start
        pieces.append(Piece(PieceKind.START, block=section.block, value=section))
        return section

    def _call_again(self, index: int | None) -> dict[str, Any]:
        """More arguments for a call that has ended are a call of their own, with an id of its own."""
        last = self._last.get(index)
        before = last.block if last is not None and last.block is not None and last.block.kind == "call" else None
        kind = last.kind if last is not None and before is not None else "tool_use"
        before = before or Block("call", id="toolu")
        id = f"{before.id or 'toolu'}_{self._fields.count}"
        return {"type": kind, "id": id, "name": before.name, "input": {}}

    def _said(self, delta: dict[str, Any], section: Section, pieces: list[Piece]) -> None:
        text = delta.get(section.key)
        block = section.block
        assert block is not None
        known = {"type"}
        if type(text) is str:
            known.add(section.key)
            if text:
                block.source.append(text)
                pieces.append(Piece(_DELTA, block=block, path=section.path, text=text, value=section))
        opaque({key: value for key, value in delta.items() if key not in known}, ("delta",), pieces)

    def _cited(self, delta: dict[str, Any], pieces: list[Piece]) -> None:
        self._fields.citation(delta.get("citation"), ("delta", "citation"), pieces)
        opaque({key: value for key, value in delta.items() if key not in ("type", "citation")}, ("delta",), pieces)

    def _carried(self, delta: dict[str, Any], kind: Any, pieces: list[Piece]) -> None:
        """Signatures, and deltas that nobody knows."""
        known = kind in _FITS or kind in _BLOCK_OF if type(kind) is str else False
        if not known:
            self.unknown = f"a delta of type {str(kind)[:40]!r}"
        opaque({key: value for key, value in delta.items() if key != "type" or not known}, ("delta",), pieces)

    def _stop(self, data: dict[str, Any], _chunk: Chunk, pieces: list[Piece]) -> None:
        index = _index_of(data, pieces)
        self._end_late(pieces, index)
        section = self._open.pop(index, None)
        if section is not None:
            pieces.append(Piece(PieceKind.DERIVED, block=section.block, value=section))
            stop(section, pieces)
        _rest(data, _STOP, pieces)

    def _end_late(self, pieces: list[Piece], index: int | str | None = "any") -> None:
        """End what upstream never began, and so never ends either."""
        for key in [key for key in self._late if index in ("any", key[0])]:
            _end(self._late.pop(key), pieces)

    def _end_all(self, pieces: list[Piece], *, closed: bool) -> None:
        for key in list(self._late):
            section = self._late.pop(key)
            if closed:
                _end(section, pieces)
            else:
                stop(section, pieces, closed=False)
        for section in self._open.values():
            stop(section, pieces, closed=closed)
        self._open.clear()

    # -- the message ---------------------------------------------------------------------------------------------------

    def _message_start(self, data: dict[str, Any], chunk: Chunk, pieces: list[Piece]) -> None:
        message = data.get("message")
        if type(message) is dict:
            self._fields.message(message, ("message",), chunk, pieces)
            for key in ("id", "model"):
                value = message.get(key)
                setattr(self, key, value if type(value) is str else "")
        else:
            opaque(message, ("message",), pieces)
        _rest(data, frozenset({"type", "message"}), pieces)

    def _message_delta(self, data: dict[str, Any], _chunk: Chunk, pieces: list[Piece]) -> None:
        self._end_all(pieces, closed=True)
        delta = data.get("delta")
        if type(delta) is dict:
            opaque({key: value for key, value in delta.items() if key != "stop_reason"}, ("delta",), pieces)
            self._fields.finish(delta.get("stop_reason"), ("delta", "stop_reason"), pieces)
        else:
            opaque(delta, ("delta",), pieces)
        self._fields.usage(data.get("usage"), ("usage",), pieces)
        _rest(data, frozenset({"type", "delta", "usage"}), pieces)

    def _message_stop(self, data: dict[str, Any], _chunk: Chunk, pieces: list[Piece]) -> None:
        self._end_all(pieces, closed=True)
        pieces.append(Piece(PieceKind.END))
        _rest(data, _TYPE, pieces)

    def _error(self, data: dict[str, Any], _chunk: Chunk, pieces: list[Piece]) -> None:
        self._fields.error(data.get("error"), ("error",), pieces)
        self._fields.identifier(data.get("request_id"), ("request_id",), pieces)
        _rest(data, frozenset({"type", "error", "request_id"}), pieces)

    def _ping(self, data: dict[str, Any], _chunk: Chunk, pieces: list[Piece]) -> None:
        _rest(data, _TYPE, pieces)


def _end(section: Section, pieces: list[Piece]) -> None:
    """End a section of which upstream does not say that it ends."""
    stop(section, pieces)
    pieces.append(Piece(PieceKind.DERIVED, value=Ended(section)))


def _index_of(data: dict[str, Any], pieces: list[Piece]) -> int | None:
    """The index, where it is a number that means one place."""
    index = data.get("index")
    if type(index) is int:
        return index
    if type(index) is float and index.is_integer():
        return int(index)
    opaque(index, ("index",), pieces)
    return None


def _rest(data: dict[str, Any], known: frozenset[str], pieces: list[Piece]) -> None:
    if not data.keys() <= known:
        opaque({key: value for key, value in data.items() if key not in known}, (), pieces)
