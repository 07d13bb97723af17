"""Writes a stream of Responses events: raw where nothing was decided, patched where something was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.errors import IllegalOutput
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.responses.changes import changes_of
from luthien_guard.wire.responses.made import blank_response, message_events, message_item, usage_of
from luthien_guard.wire.responses.outbox import Outbox
from luthien_guard.wire.splice import patch_chunk
from luthien_guard.wire.sse import canonical

__all__ = ["StreamWriter"]

Item = tuple[bytes, int | None]
_LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"})


class StreamWriter:
    """Implements `Writer` for `stream: true`."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._call_id = call_id
        self._outbox = Outbox()
        self._next = 0  # sequence number
        self._renumber = False  # something was put in or left out: numbers are ours from here on
        self._lost: list[int] = []  # output indices of items that went without a trace
        self._said = 0
        self._started = False
        self._ended = False

    @property
    def finished(self) -> bool:
        return self._ended

    def write(self, chunks: Sequence[ReadChunk]) -> list[Item]:
        out: list[Item] = []
        for read in chunks:
            data = read.chunk.data
            if read.chunk.kind == "data" and isinstance(data, dict):
                self._event(read, data, out)
            elif read.chunk.raw:
                out.append((read.chunk.raw, read.source))
        return out

    def _event(self, read: ReadChunk, data: dict[str, Any], out: list[Item]) -> None:
        kind = data.get("type")
        kind = kind if isinstance(kind, str) else ""
        self._judge(kind, strict=read.source is None)
        removed = [p.block for p in read.pieces if p.block is not None and p.block.removed]
        if removed and not any(piece.owner for piece in read.pieces):
            self._removed(read, data, out)
            return
        changes = changes_of(read.pieces, self._stand_in)
        self._renumbered(data, changes)
        raw = patch_chunk(read.chunk, changes) if changes else read.chunk.raw
        if changes and _says_nothing(read.pieces):
            self._renumber = True
            return
        self._follow(kind, data, changes, raw)
        out.append((raw, None if changes else read.source))

    def _judge(self, kind: str, *, strict: bool) -> None:
        if strict and self._ended:
            raise IllegalOutput(f"openai.responses: {kind} after the end", policy="", hook="")
        if strict and not kind:
            raise IllegalOutput("openai.responses: an event without a type", policy="", hook="")

    def _renumbered(self, data: dict[str, Any], changes: dict[Path, Any]) -> None:
        number, index = data.get("sequence_number"), data.get("output_index")
        if type(number) is int:
            if not self._renumber:
                self._next = number
            elif number != self._next:
                changes[("sequence_number",)] = self._next
            self._next += 1
        if self._lost and type(index) is int:
            changes[("output_index",)] = index - sum(lost < index for lost in self._lost)

    def _follow(self, kind: str, data: dict[str, Any], changes: dict[Path, Any], raw: bytes) -> None:
        """Remember what left. A delta needs no second parse: its text is known."""
        self._started = self._started or kind == "response.created"
        self._ended = self._ended or kind in _LAST
        if changes:
            if kind.endswith(".delta") and ("delta",) in changes:
                data = {**data, "delta": changes[("delta",)]}
            else:
                data = json.loads(raw[raw.index(b"data:") + 5 :])
        self._outbox.follow(kind, data)

    # -- removed calls -------------------------------------------------------------------------------------------------

    def _removed(self, read: ReadChunk, data: dict[str, Any], out: list[Item]) -> None:
        """An event of a removed call: the first is replaced by a whole message item, the others just go."""
        index = data.get("output_index")
        for piece in read.pieces:
            block = piece.block
            if piece.kind is not PieceKind.START or block is None or not block.removed:
                continue
            item = self._stand_in(block)
            if item is None:
                self._lost += [index] if isinstance(index, int) else []
            else:
                place = index if isinstance(index, int) else self._outbox.next_index
                place -= sum(lost < place for lost in self._lost)
                self._take_number(data)
                self._renumber = True
                out += [(self._made(event), None) for event in message_events(item, place)]
        self._take_number(data)
        self._renumber = True

    def _take_number(self, data: dict[str, Any]) -> None:
        """The number of an event that goes is free for the next that leaves."""
        number = data.get("sequence_number")
        if not self._renumber and type(number) is int:
            self._next = number

    def _stand_in(self, block: Block) -> dict[str, Any] | None:
        if block.replacement is None:
            return None
        if "item" not in block.codec:
            block.codec["item"] = message_item(f"msg_{self._call_id}_{self._said}", block.replacement)
            self._said += 1
        item: dict[str, Any] = block.codec["item"]
        return item

    # -- our own words -------------------------------------------------------------------------------------------------

    def _made(self, event: dict[str, Any]) -> bytes:
        event = {**event, "sequence_number": self._next}
        self._next += 1
        kind = event["type"]
        self._started = self._started or kind == "response.created"
        self._ended = self._ended or kind in _LAST
        self._outbox.follow(kind, event)
        return canonical(dumps(event).encode(), kind)

    def _response(self, **changes: Any) -> dict[str, Any]:
        base = self._outbox.response or blank_response(f"resp_{self._call_id}", self._model)
        return {**base, **changes}

    def _beginning(self) -> list[bytes]:
        if self._started:
            return []
        response = self._response()
        return [self._made({"type": f"response.{step}", "response": response}) for step in ("created", "in_progress")]

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        if self._ended:
            return b""
        out = self._beginning()
        out += [self._made(event) for event in list(self._outbox.closing())]
        item = message_item(f"msg_{self._call_id}_{self._said}", message)
        out += [self._made(event) for event in message_events(item, self._outbox.next_index)]
        items = [self._outbox.done[index] for index in sorted(self._outbox.done)]
        response = self._response(status="completed", output=items, usage=usage_of(usage), error=None)
        out.append(self._made({"type": "response.completed", "response": response}))
        return b"".join(out)

    def fail(self, status: int, code: str, message: str) -> bytes:
        if self._ended:
            return b""
        response = self._response(status="failed", error={"code": code, "message": message})
        out = self._beginning()
        return b"".join([*out, self._made({"type": "response.failed", "response": response})])


def _says_nothing(pieces: Sequence[Piece]) -> bool:
    """True for a delta whose whole text went."""
    deltas = [piece for piece in pieces if piece.kind is PieceKind.DELTA]
    rest = [piece for piece in pieces if piece.kind not in (PieceKind.DELTA, PieceKind.START, PieceKind.DERIVED)]
    return bool(deltas) and not rest and all(piece.out == "" and piece.path == ("delta",) for piece in deltas)
