"""Writes a stream of Messages events: raw where nothing was decided, patched where something was.

Every content block leaves under the next free index. While upstream numbers its blocks 0, 1, 2... and none is removed
that is the index that it came with, and its bytes stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.errors import IllegalOutput
from luthien_guard.wire.anthropic_messages import made
from luthien_guard.wire.anthropic_messages.changes import (
    check_arguments,
    content_changes,
    finish_after_removal,
    piece_changes,
    sections_of,
    text_block,
)
from luthien_guard.wire.anthropic_messages.fields import json_of
from luthien_guard.wire.anthropic_messages.grammar import Grammar
from luthien_guard.wire.anthropic_messages.sections import Ended, Section, section_of
from luthien_guard.wire.anthropic_messages.splice import spliced
from luthien_guard.wire.format import Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.splice import patch_chunk

__all__ = ["StreamWriter"]

Item = tuple[bytes, int | None]

_DELTA: Final = PieceKind.DELTA


class StreamWriter:
    """Implements `Writer` for `stream: true`."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._call_id = call_id
        self._grammar = Grammar()
        self._indices: dict[int, int] = {}  # as upstream spells them -> as they leave
        self._shifted = False  # the two differ somewhere
        self._kept = self._removed = False  # a call for the client was
        self._usage: dict[str, Any] = {}
        self._saying: Section | None = None  # the text that spoke last
        self._looked: object = None  # the batch whose calls were looked through

    @property
    def finished(self) -> bool:
        return self._grammar.state == "done"

    def write(self, chunks: Sequence[ReadChunk]) -> list[Item]:
        out: list[Item] = []
        for at, read in enumerate(chunks):
            pieces = read.pieces
            if len(pieces) == 1 and read.source is not None:
                piece = pieces[0]
                section = piece.value
                if piece.kind is _DELTA and section.same and section.index == read.chunk.data["index"]:
                    raw = read.chunk.raw
                    if piece.out is None:
                        out.append((raw, read.source))
                    elif piece.out and (new := spliced(raw, section.key, piece.text, piece.out)) is not None:
                        out.append((new, None))
                    else:
                        self._write(chunks, at, out)
                        continue
                    section.said = True
                    self._saying = section
                    continue
            self._write(chunks, at, out)
        return out

    def _write(self, chunks: Sequence[ReadChunk], at: int, out: list[Item]) -> None:
        read = chunks[at]
        for piece in read.pieces:
            if piece.value.__class__ is Ended:
                self._end_late(piece.value.section, out)
            elif piece.kind is _DELTA and not piece.path and piece.out:
                self._say_arguments(piece, out)
        chunk = read.chunk
        if chunk.kind == "data":
            data = chunk.data
            kind = data.get("type") if isinstance(data, dict) else None
            self._event(kind, chunks, at, out)
        elif chunk.raw:
            if read.source is None and chunk.kind != "comment":
                raise IllegalOutput(f"anthropic.messages: {chunk.kind!r} in a stream", policy="", hook="")
            out.append((chunk.raw, read.source))

    def _event(self, kind: Any, chunks: Sequence[ReadChunk], at: int, out: list[Item]) -> None:
        read = chunks[at]
        if kind == "content_block_start":
            self._start(chunks, at, out)
        elif kind == "content_block_delta":
            self._delta(chunks, at, out)
        elif kind == "content_block_stop":
            self._stop(read, out)
        else:
            self._grammar.event(kind, strict=read.source is None)
            changes: dict[Path, Any] = {}
            if kind == "message_start":
                changes = self._message_start(read)
            elif kind == "message_delta":
                changes = self._message_delta(read)
            self._put(read, changes, out)

    def _put(self, read: ReadChunk, changes: Mapping[Path, Any], out: list[Item]) -> None:
        out.append((patch_chunk(read.chunk, changes), None) if changes else (read.chunk.raw, read.source))

    # -- content blocks ------------------------------------------------------------------------------------------------

    def _start(self, chunks: Sequence[ReadChunk], at: int, out: list[Item]) -> None:
        read = chunks[at]
        section = section_of(read.pieces)
        if section is None:
            self._made_start(read, out)
            return
        if self._begin(section, chunks, at, out):
            self._put(read, piece_changes(read.pieces) | self._index(read, section), out)

    def _begin(self, section: Section, chunks: Sequence[ReadChunk], at: int, out: list[Item]) -> bool:
        """Give the section its place; False where it is removed. What replaces removed calls is said before."""
        if section.is_call:
            self._explain(section, chunks, at, out)
            check_arguments(section.block)  # type: ignore[arg-type]
        if section.is_removed:
            section.gone = self._shifted = True
            self._removed = self._removed or section.is_client_call
            return False
        self._kept = self._kept or section.is_client_call
        section.out = self._grammar.begin(section.kind, strict=chunks[at].source is None)
        if type(section.index) is int and section.start is None:
            self._indices[section.index] = section.out
        section.same = type(section.index) is int and section.index == section.out
        self._shifted = self._shifted or not section.same
        return True

    def _explain(self, section: Section, chunks: Sequence[ReadChunk], at: int, out: list[Item]) -> None:
        """Say what replaces removed calls. No text may follow a tool_use: so before the first of a batch it is said
        for all that come behind it. Where one has left already there is no place for it any more."""
        todo = [section]
        if section.kind == "tool_use" and self._looked is not chunks:
            self._looked = chunks
            todo = [each for read in chunks[at:] for each in sections_of(read.pieces)]
        for each in todo:
            block = each.block
            if block is None or not block.removed or not block.replacement or each.explained:
                continue
            each.explained = True
            if not self._grammar.called:
                self._shifted = True
                out.append((self._said(block.replacement), None))

    def _said(self, text: str) -> bytes:
        """A whole text block of our own."""
        index = self._grammar.begin("text", strict=False)
        self._grammar.end(index, strict=False)
        return b"".join(
            (
                made.event("content_block_start", index=index, content_block=text_block("")),
                made.event("content_block_delta", index=index, delta={"type": "text_delta", "text": text}),
                made.event("content_block_stop", index=index),
            )
        )

    def _delta(self, chunks: Sequence[ReadChunk], at: int, out: list[Item]) -> None:
        read = chunks[at]
        section = section_of(read.pieces)
        if section is None:
            self._stray(read, out)
            return
        if section.out is None and not section.gone and not self._begin_here(section, chunks, at, out):
            return
        if section.gone or _says_nothing_now(read):
            return
        if read.source is None:
            self._grammar.delta(section.out, read.chunk.data["delta"].get("type"))
        self._note(section, read.pieces)
        self._put(read, piece_changes(read.pieces) | self._index(read, section), out)

    def _begin_here(self, section: Section, chunks: Sequence[ReadChunk], at: int, out: list[Item]) -> bool:
        """A delta whose block has not begun: upstream never began it, or a policy changed or dropped its start."""
        if section.start is None:
            section.out = self._indices.get(section.index) if type(section.index) is int else None
            return section.out is not None
        if self._begin(section, chunks, at, out):
            out.append((made.event("content_block_start", index=section.out, content_block=section.start), None))
        return True

    def _note(self, section: Section, pieces: Sequence[Piece]) -> None:
        if any(piece.kind is _DELTA and piece.value is section for piece in pieces):
            section.said = True
            self._saying = section

    def _stop(self, read: ReadChunk, out: list[Item]) -> None:
        section = section_of(read.pieces)
        if section is None:
            self._stray(read, out)
            return
        if section.out is None and not section.gone and type(section.index) is int:
            section.out = self._indices.get(section.index)
        if section.gone or section.out is None:
            return
        self._grammar.end(section.out, strict=read.source is None)
        section.stopped, section.same = True, False
        self._put(read, self._index(read, section), out)

    def _end_late(self, section: Section, out: list[Item]) -> None:
        """The stop that upstream does not send."""
        if section.out is not None and not section.stopped:
            self._grammar.end(section.out, strict=False)
            section.stopped, section.same = True, False
            out.append((made.event("content_block_stop", index=section.out), None))

    def _say_arguments(self, piece: Piece, out: list[Item]) -> None:
        """New arguments of a call whose own had no bytes: they were blank."""
        section: Section = piece.value
        if section.out is not None and not section.gone and not section.stopped:
            delta = {"type": "input_json_delta", "partial_json": piece.out}
            out.append((made.event("content_block_delta", index=section.out, delta=delta), None))

    def _index(self, read: ReadChunk, section: Section) -> dict[Path, Any]:
        spelled = read.chunk.data.get("index")
        return {} if type(spelled) is int and spelled == section.out else {("index",): section.out}

    # -- chunks that no section has ------------------------------------------------------------------------------------

    def _made_start(self, read: ReadChunk, out: list[Item]) -> None:
        """A policy made this start, in place of one of upstream's or from nothing."""
        data = read.chunk.data
        block = data.get("content_block")
        spelled, due = data.get("index"), self._grammar.count
        if not isinstance(block, dict) or type(spelled) is not int or (spelled != due and not self._shifted):
            raise IllegalOutput(f"anthropic.messages: block {spelled} where {due} was due", policy="", hook="")
        self._indices[spelled] = index = self._grammar.begin(str(block.get("type")), strict=True)
        self._put(read, {("index",): index} if spelled != index else {}, out)

    def _stray(self, read: ReadChunk, out: list[Item]) -> None:
        """A delta or stop of a policy's; or one of upstream's that belongs to no block: nobody reads it, but once the
        indices are not upstream's any more it could be taken for another block's."""
        data = read.chunk.data
        if read.source is not None:
            if not self._shifted:
                out.append((read.chunk.raw, read.source))
            return
        spelled = data.get("index")
        index = self._indices.get(spelled) if type(spelled) is int else None
        if data.get("type") == "content_block_stop":
            self._grammar.end(index, strict=True)
        else:
            delta = data.get("delta")
            self._grammar.delta(index, delta.get("type") if isinstance(delta, dict) else None)
        self._put(read, {("index",): index} if spelled != index else {}, out)

    # -- the message ---------------------------------------------------------------------------------------------------

    def _message_start(self, read: ReadChunk) -> dict[Path, Any]:
        message = read.chunk.data.get("message")
        self._note_usage(message)
        sections = sections_of(read.pieces)
        if not sections:
            return {}
        changes = content_changes(json_of(read.chunk), read.pieces, sections)
        calls = [section for section in sections if section.is_client_call]
        self._removed = any(section.is_removed for section in calls)
        self._kept = not all(section.is_removed for section in calls)
        kinds = [section.kind for section in sections if not section.is_removed]
        said = sum(1 for each in sections if each.block is not None and each.block.removed and each.block.replacement)
        self._grammar.whole(["text"] * said + kinds)
        return changes

    def _message_delta(self, read: ReadChunk) -> dict[Path, Any]:
        self._note_usage(read.chunk.data)
        for piece in read.pieces:
            if piece.kind is PieceKind.FINISH:
                reason = finish_after_removal(piece.text, removed=self._removed, kept=self._kept)
                if reason != piece.text:
                    return {piece.path: reason}
        return {}

    def _note_usage(self, of: Any) -> None:
        usage = of.get("usage") if isinstance(of, dict) else None
        if isinstance(usage, dict):
            self._usage |= {key: value for key, value in usage.items() if value is not None}

    # -- our own words -------------------------------------------------------------------------------------------------

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        """Where a tool_use has left there is no place for text any more, and after message_delta none for anything:
        then the answer ends without the message, still with `end_turn`, so that nobody runs the calls."""
        grammar = self._grammar
        known = {**self._usage, **(usage or {})}
        out: list[bytes] = []
        if grammar.state == "done":
            return b""
        if grammar.state == "new":
            grammar.event("message_start", strict=True)
            blank = made.message(f"msg_{self._call_id}", self._model, [], None, made.counts(known))
            out.append(made.event("message_start", message=blank))
        if grammar.state == "open":
            out += self._last_text(message)
            grammar.event("message_delta", strict=True)
            delta = {"stop_reason": "end_turn", "stop_sequence": None}
            out.append(made.event("message_delta", delta=delta, usage=made.output_counts(known)))
        grammar.event("message_stop", strict=True)
        out.append(made.event("message_stop"))
        return b"".join(out)

    def _last_text(self, text: str) -> list[bytes]:
        """Close what is open and say the text: in the text block that is open, else in one of its own. A thinking
        block that is cut here has no signature, and nobody but the provider could make one."""
        grammar = self._grammar
        out: list[bytes] = []
        for index, kind in list(grammar.open.items()):
            if kind == "text" and text and len(grammar.open) == 1 and not grammar.called:
                saying = self._saying
                said = saying is not None and saying.out == index and saying.said
                delta = {"type": "text_delta", "text": f"\n\n{text}" if said else text}
                out.append(made.event("content_block_delta", index=index, delta=delta))
                text = ""
            grammar.end(index, strict=True)
            out.append(made.event("content_block_stop", index=index))
        if text and not grammar.called:
            out.append(self._said(text))
        return out

    def fail(self, status: int, code: str, message: str) -> bytes:
        if self._grammar.state == "done":
            return b""
        self._grammar.event("error", strict=True)
        return made.event(**_flat(made.error_body(status, code, message)))


def _flat(body: dict[str, Any]) -> dict[str, Any]:
    return {"kind": body["type"], "error": body["error"]}


def _says_nothing_now(read: ReadChunk) -> bool:
    """True for a delta all of whose text was taken away: it need not leave."""
    outs = [piece.out for piece in read.pieces if piece.kind is _DELTA]
    delta = read.chunk.data.get("delta")
    return bool(outs) and all(out == "" for out in outs) and isinstance(delta, dict) and len(delta) == 2
