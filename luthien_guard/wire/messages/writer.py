"""Writes a stream of Messages events.

Block indices leave in the order of the starts, whatever upstream called them: in a well-formed stream that changes
nothing, in any other it makes clients that append and clients that go by the index assemble the same. What explains
removed calls is a text block in their place, and never behind a tool_use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from luthien_guard.errors import IllegalOutput
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.json_text import DELETE, Raw, dumps, loads
from luthien_guard.wire.messages.arguments import Arguments
from luthien_guard.wire.messages.blocks import Place, runs_at_client, wire_key
from luthien_guard.wire.messages.message import changes_of, explanations, stop_reason
from luthien_guard.wire.messages.own import OwnEvents
from luthien_guard.wire.messages.reader import event_kind
from luthien_guard.wire.messages.splice import agreed, name_of, replace_text
from luthien_guard.wire.messages.turns import Turns
from luthien_guard.wire.splice import patch_data
from luthien_guard.wire.sse import canonical

__all__ = ["StreamWriter"]

Item = tuple[bytes, int | None]
_DELTA, _START = PieceKind.DELTA, PieceKind.START
_ELEMENT = len(("message", "content", 0))


class StreamWriter:
    """Implements `Writer` for `stream: true`."""

    __slots__ = (
        "_arguments",
        "_begun",
        "_gone",
        "_grammar",
        "_kept",
        "_own",
        "_places",
        "_removed",
        "_said",
        "_shifted",
        "_turns",
    )

    def __init__(self, model: str, call_id: str) -> None:
        self._own = OwnEvents(model, call_id)
        self._grammar = self._own.grammar
        self._turns = Turns()
        self._arguments = Arguments()
        self._places: dict[Any, int | None] = {}  # key of an open block -> its index; None: it does not leave
        self._begun: set[Any] = set()  # keys of open blocks whose start is ours
        self._shifted = False  # an index that left is not upstream's
        self._kept = 0  # calls of the client's
        self._removed = 0
        self._said: dict[Block, str] = {}  # what explains removed calls, by the call before which it is said
        self._gone: set[str] = set()  # ids of removed server calls: their results go too

    @property
    def finished(self) -> bool:
        return self._grammar.state == "done"

    def write(self, chunks: Sequence[ReadChunk]) -> list[Item]:
        chunks = self._turns.of(chunks)
        if len(chunks) == 1 and (only := self._plain(chunks[0])) is not None:
            return [only]
        out: list[Item] = []
        self._said = explanations(_calls_in(chunks))
        for read in chunks:
            if (plain := self._plain(read)) is not None:
                out.append(plain)
                continue
            if type(read.chunk.data) is dict:
                self._event(read, out)
            else:
                self._other(read, out)
        return out

    def _plain(self, read: ReadChunk) -> Item | None:
        """The hot path: a delta of a block that leaves under its own index, as it came or with new text only."""
        pieces = read.pieces
        if len(pieces) != 1 or read.source is None or (piece := pieces[0]).kind is not _DELTA:
            return None
        if read.chunk.event is None:
            return None
        data = read.chunk.data
        key = data.get("index")
        if type(key) is not int or self._places.get(key) != key or data.get("type") != "content_block_delta":
            return None
        if piece.out is None:
            return (read.chunk.raw, read.source)
        if not piece.out or len(data) != 3 or len(data["delta"]) != 2 or piece.path[-1] != "text":
            return None
        raw = replace_text(read.chunk, piece.text, piece.out)
        return None if raw is None else (raw, None)

    def _other(self, read: ReadChunk, out: list[Item]) -> None:
        if read.source is None and read.chunk.kind == "data":
            raise IllegalOutput("anthropic.messages: an event that is no object", policy="", hook="")
        if read.chunk.raw:
            out.append((read.chunk.raw, read.source))

    def _event(self, read: ReadChunk, out: list[Item]) -> None:
        kind, data = event_kind(read.chunk), read.chunk.data
        changes = agreed(read.pieces)
        place: int | None = None
        first: dict[str, Any] | None = None
        if kind == "content_block_delta" or kind == "content_block_stop":
            found = self._inside(read, kind, changes, out)
            if found is None:
                return
            place = found
        elif kind == "content_block_start":
            place = self._begin(read, data, changes, out)
            if place is None:
                return
            first = _first_delta(data, changes) if read.source is not None else None
        elif kind == "message_start":
            if self._grammar.begun and read.source is not None:
                return  # a second one: clients would not agree on what it begins
            self._message(data, read.pieces, changes)
        elif kind == "message_delta":
            self._end_blocks(out)
            self._reason(read.pieces, changes)
        strict = read.source is None
        self._grammar.follow(kind, data, place, strict=strict)
        if strict and not changes:  # a policy made it: the name of the frame must be right, the SDKs go by it
            out.append((canonical(dumps(data).encode(), kind), None))
            return
        name = name_of(read.chunk, kind)
        raw = patch_data(read.chunk, changes) if changes else read.chunk.raw
        out.append((name + raw, None if changes or name else read.source))
        if first is not None:
            out.append((self._own.event("content_block_delta", place, delta=first), None))

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _begin(
        self, read: ReadChunk, data: dict[str, Any], changes: dict[Path, Any], out: list[Item]
    ) -> int | None:
        """The index that a starting block gets; None when it does not leave."""
        index = data.get("index")
        key = wire_key(index)
        if key in self._places:
            self._made_stop(key, out)
        start = next((piece for piece in read.pieces if piece.kind is _START and _is_wire(piece)), None)
        block = start.block if start is not None else None
        if self._goes(block, data, out):
            self._places[key] = None
            return None
        place = self._take(key)
        if place != index or type(index) is not int:
            changes[("index",)] = place
        self._decide(read.pieces, key, changes)
        if block is not None and block.new_name is not None:
            changes[("content_block", "name")] = block.new_name
        return place

    def _take(self, key: Any) -> int:
        place = self._own.take_index()
        self._places[key] = place
        self._shifted = self._shifted or place != key
        return place

    def _goes(self, block: Block | None, data: dict[str, Any], out: list[Item]) -> bool:
        """True for a removed call, and for the result of one."""
        if block is None or block.kind == "text":
            raw = data.get("content_block")
            of = raw.get("tool_use_id") if isinstance(raw, dict) else None
            return isinstance(of, str) and of in self._gone
        if block in self._said:
            self._explain(self._said[block], out)
        if runs_at_client(block):
            self._removed += block.removed
            self._kept += not block.removed
        elif block.removed and block.id:
            self._gone.add(block.id)
        if block.changed and not block.removed and block.policed:
            self._arguments.expect(block)
        return block.removed

    def _inside(self, read: ReadChunk, kind: str, changes: dict[Path, Any], out: list[Item]) -> int | None:
        """The index of a delta or a stop; None when it does not leave."""
        index = read.chunk.data.get("index")
        key = index if type(index) is int else wire_key(index)
        pieces = read.pieces
        if pieces and pieces[0].kind is not _DELTA:
            self._orphan(pieces, key, out)
        if key not in self._places:
            # signatures, stops and the like for a block that is not open: after a shift they would land in another one
            if read.source is None:
                raise IllegalOutput(f"anthropic.messages: {kind} outside of a block", policy="", hook="")
            return None if self._shifted or (pieces and pieces[0].block is not None) else -1
        place = self._places[key]
        if place is not None:
            if kind == "content_block_stop":
                self._say_arguments(key, out)
            elif not self._decide(pieces, key, changes):
                return None
            if place != index or type(index) is not int:  # 1.0 and true equal 1
                changes[("index",)] = place
        if kind == "content_block_stop":
            del self._places[key]
            self._begun.discard(key)
        return place

    def _orphan(self, pieces: Sequence[Piece], key: Any, out: list[Item]) -> None:
        """A start of our own for a delta that had none (the reader made a block for it)."""
        start = next((piece for piece in pieces if piece.kind is _START and _is_wire(piece)), None)
        if start is None or start.block is None:
            return
        block = start.block
        if key in self._places:
            self._made_stop(key, out)
        if self._goes(block, {}, out):
            self._places[key] = None
            return
        self._begun.add(key)
        if block.kind == "call":
            name = block.new_name if block.new_name is not None else block.name
            raw: dict[str, Any] = {"type": "tool_use", "id": block.id, "name": name, "input": {}}
        elif block.channel == "reasoning":
            raw = {"type": "thinking", "thinking": "", "signature": ""}
        else:
            raw = {"type": "text", "text": ""}
        out.append((self._own.event("content_block_start", self._take(key), content_block=raw), None))

    def _made_stop(self, key: Any, out: list[Item]) -> None:
        self._say_arguments(key, out)
        place = self._places.pop(key)
        self._begun.discard(key)
        if place is not None:
            out.append((self._own.event("content_block_stop", place), None))

    def _end_blocks(self, out: list[Item]) -> None:
        """Upstream leaves out the stop of a call that ran into max_tokens: that is its own to say, unless the block is
        ours."""
        for key in list(self._places):
            if key in self._begun:
                self._made_stop(key, out)
            else:
                self._say_arguments(key, out)
        self._places.clear()

    def _decide(self, pieces: Sequence[Piece], key: Any, changes: dict[Path, Any]) -> bool:
        """What the decisions change in a chunk. False: nothing is left of it."""
        said = True
        for piece in pieces:
            out, block = piece.out, piece.block
            if block is not None and block.kind == "call" and block.codec is None:
                if block.removed or out is not None:  # beside a call: what a policy says of it has no place
                    return False
                continue
            if out is None or block is None:
                continue
            if block.kind == "call":
                self._arguments.put(piece, block, out, key, changes)
            else:
                changes[piece.path] = out
            said = said and (out != "" or len(pieces) > 1)
        return said

    def _say_arguments(self, key: Any, out: list[Item]) -> None:
        delta, place = self._arguments.owed(key), self._places[key]
        if delta is not None and place is not None:
            out.append((self._own.event("content_block_delta", place, delta=delta), None))

    # -- the message ---------------------------------------------------------------------------------------------------

    def _message(self, data: dict[str, Any], pieces: Sequence[Piece], changes: dict[Path, Any]) -> None:
        message = data.get("message")
        if not isinstance(message, dict):
            return
        model, content = message.get("model"), message.get("content")
        self._own.model = model if isinstance(model, str) and model else self._own.model
        if not isinstance(content, list) or not content:
            return
        changes.update(changes_of(dumps(data), data, ("message",), pieces, self._said))
        left = changes.get(("message", "content"))
        gone = sum(value is DELETE and len(path) == _ELEMENT for path, value in changes.items())
        # Clients append to these blocks: later ones get the indices behind them.
        self._own.take_index(len(loads(left.encode())) if isinstance(left, Raw) else len(content) - gone)
        for piece in pieces:
            if piece.kind is _START and piece.block is not None and runs_at_client(piece.block):
                self._removed += piece.block.removed
                self._kept += not piece.block.removed
                self._grammar.called = self._grammar.called or not piece.block.removed

    def _reason(self, pieces: Sequence[Piece], changes: dict[Path, Any]) -> None:
        for piece in pieces:
            if piece.kind is PieceKind.FINISH:
                reason = stop_reason(piece.text, removed=self._removed, kept=self._kept)
                if reason != piece.text:
                    changes[piece.path] = reason

    # -- our own words -------------------------------------------------------------------------------------------------

    def _explain(self, text: str, out: list[Item]) -> None:
        if raw := self._own.explanation(text):
            out.append((raw, None))
            self._shifted = True

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        return self._own.end(message, usage)

    def fail(self, status: int, code: str, message: str) -> bytes:
        return self._own.fail(status, message)


def _first_delta(data: dict[str, Any], changes: dict[Path, Any]) -> dict[str, Any] | None:
    """What a text says in its start already, as a delta: clients that print deltas skip the start."""
    raw = data.get("content_block")
    kind = raw.get("type") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or kind not in ("text", "thinking", "compaction"):
        return None
    field = "content" if kind == "compaction" else kind
    path = ("content_block", field)
    text = changes.get(path, raw.get(field))
    if not isinstance(text, str) or not text:
        return None
    changes[path] = ""
    return {"type": f"{kind}_delta", field: text}


def _is_wire(piece: Piece) -> bool:
    """Citations are blocks for policies; on the wire they are deltas of a text block."""
    return piece.block is not None and isinstance(piece.block.codec, Place)


def _calls_in(chunks: Sequence[ReadChunk]) -> Iterator[tuple[Block, Block]]:
    """The calls that begin, each with the one in whose place it stands."""
    place: Block | None = None
    for read in chunks:
        for piece in read.pieces:
            block = piece.block
            if piece.kind is not _START or block is None or block.kind != "call":
                continue
            place = block if place is None or _is_wire(piece) or piece.owner[:1] == ("message",) else place
            yield block, place
