"""Writes a stream of chat completion chunks: raw where nothing was decided, patched where something was."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.wire.chat.apart import WHOLE, apart
from luthien_guard.wire.chat.changes import put, without_empty_lists
from luthien_guard.wire.chat.fields import ENVELOPE
from luthien_guard.wire.chat.grammar import Grammar
from luthien_guard.wire.chat.heading import FRAME, Heading, under
from luthien_guard.wire.chat.indices import choice_of, last_choice
from luthien_guard.wire.chat.places import Places
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.json_text import DELETE, dumps
from luthien_guard.wire.splice import patch_chunk, replace_string
from luthien_guard.wire.sse import canonical

__all__ = ["StreamWriter", "finish_after_removal", "no_usage"]

Item = tuple[bytes, int | None]
#: What a chunk of our own has of those before it.
_REPEATED: Final = ("id", "created", "model")


class _Written:
    """What has left of one choice."""

    __slots__ = ("kept", "places", "removed", "role", "said")

    def __init__(self) -> None:
        self.role = False
        self.said = False  # some content
        self.kept = self.removed = 0  # calls
        self.places: Places | None = None


class StreamWriter:
    """Implements `Writer` for `stream: true`."""

    __slots__ = ("_choices", "_envelope", "_grammar", "_heading", "_last_choice", "_removing", "_usage")

    def __init__(self, model: str, call_id: str, choices: int | None = None, usage: bool = False) -> None:
        self._envelope: dict[str, Any] = {
            "id": f"chatcmpl-{call_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model or "unknown",
        }
        self._last_choice = last_choice(choices)
        self._grammar = Grammar(self._last_choice)
        self._heading = Heading()
        self._choices: dict[int, _Written] = {}
        self._removing = False  # a call of this response was removed
        self._usage = usage

    @property
    def finished(self) -> bool:
        return self._grammar.done

    def write(self, chunks: Sequence[ReadChunk]) -> list[Item]:
        out: list[Item] = []
        for read in chunks:
            chunk = read.chunk
            if chunk.kind == "data":
                self._data(read, out)
            else:
                if chunk.kind == "done":
                    self._grammar.end(strict=read.source is None)
                self._explain(read, out)
                if chunk.raw:
                    out.append((chunk.raw, read.source))
        return out

    def _data(self, read: ReadChunk, out: list[Item]) -> None:
        data, pieces = read.chunk.data, read.pieces
        if len(pieces) == 1 and self._quick(read, pieces[0], out):
            return
        if not self._heading.known and isinstance(data, dict):
            self._begin(read)
        self._explain(read, out)
        if isinstance(data, dict):
            self._grammar.advance(data, strict=read.source is None)
            self._note(data)
        changes = self._changes(read) if self._is_touched(read.pieces) else {}
        parts = apart(data, changes) if isinstance(data, dict) else WHOLE
        if not changes and parts is WHOLE:
            out.append((read.chunk.raw, read.source))
            return
        for part in parts:
            _leave(read, {**changes, **part}, out)

    def _quick(self, read: ReadChunk, piece: Piece, out: list[Item]) -> bool:
        """More of a text that has begun: nothing to explain, to count or to remember."""
        block = piece.block
        if piece.kind is not PieceKind.DELTA or block is None or block.kind != "text":
            return False
        if self._removing or read.source is None:
            return False
        if piece.out is None:
            out.append((read.chunk.raw, read.source))
            return True
        raw = replace_string(read.chunk.raw, str(piece.path[-1]).encode(), piece.out) if piece.out else None
        if raw is not None:
            out.append((raw, None))
        return raw is not None

    def _is_touched(self, pieces: Sequence[Piece]) -> bool:
        if self._removing:
            return True
        for piece in pieces:
            block = piece.block
            if block is None:
                if piece.kind is PieceKind.DERIVED:
                    return True
            elif piece.out is not None or block.changed or block.removed or block.policed:
                return True
        return False

    def _begin(self, read: ReadChunk) -> None:
        """What we say ourselves leaves under the heading of what upstream said."""
        self._heading.begin(read.chunk, read.pieces)
        if self._heading.known and isinstance(self._heading.object, str):
            self._envelope["object"] = self._heading.object

    def _note(self, data: dict[str, Any]) -> None:
        """Remember what a chunk of our own has to repeat, and what has been said."""
        if data.get("id"):
            for key in _REPEATED:
                if isinstance(value := data.get(key), (str, int)):
                    self._envelope[key] = value
        choices = data.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if delta and isinstance(delta, dict):
                number = choice.get("index")
                written = self._choices.get(number) if type(number) is int else None
                written = written or self._choice(choice_of(number, last=self._last_choice))
                written.role = written.role or bool(delta.get("role"))
                written.said = written.said or bool(delta.get("content"))

    def _choice(self, number: int) -> _Written:
        found = self._choices.get(number)
        if found is None:
            found = self._choices[number] = _Written()
        return found

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _explain(self, read: ReadChunk, out: list[Item]) -> None:
        """Count the calls that begin in this chunk; what replaces a removed one is said here, where it stood."""
        for piece in read.pieces:
            block = piece.block
            if piece.kind is not PieceKind.START or block is None or block.kind != "call":
                continue
            written = self._choice(block.choice)
            if not block.removed:
                # those of a `message` have no index: clients take them as they stand
                if block.policed and block.tool_kind != "legacy" and piece.owner[2] == "delta":
                    written.places = written.places or Places()
                    written.places.put(block, removed=written.removed > 0)
                written.kept += 1
                continue
            written.removed += 1
            self._removing = True
            if block.replacement:
                out.append((self._said(block.choice, block.replacement), None))

    def _said(self, number: int, text: str) -> bytes:
        """A chunk of our own with some content."""
        written = self._choice(number)
        delta: dict[str, Any] = {} if written.role else {"role": "assistant"}
        delta["content"] = ("\n\n" if written.said else "") + text
        written.role = written.said = True
        return self._chunk([{"index": number, "delta": delta, "finish_reason": None}], strict=False)

    def _chunk(self, choices: list[dict[str, Any]], *, strict: bool = True, **more: Any) -> bytes:
        data = {**self._envelope, "choices": choices, **more}
        self._grammar.advance(data, strict=strict)
        return canonical(dumps(data).encode(), self._heading.event)

    # -- changes -------------------------------------------------------------------------------------------------------

    def _changes(self, read: ReadChunk) -> dict[Path, Any]:
        changes: dict[Path, Any] = {}
        for piece in read.pieces:
            block = piece.block
            if piece.kind is PieceKind.FINISH:
                self._finish(piece, changes)
            elif block is None:
                if piece.kind is PieceKind.DERIVED:
                    changes[piece.path] = piece.value[1]
            elif block.removed:
                if piece.owner:
                    changes[piece.owner] = DELETE
            elif piece.kind is PieceKind.DERIVED:
                if piece.value == "entry":
                    _place(read.chunk.data, piece.owner, block, changes)
                else:
                    self._derived(piece, block, changes)
            elif piece.out is not None:
                put(piece, changes)
        return without_empty_lists(read.chunk.data, changes) if self._removing else changes

    def _derived(self, piece: Piece, block: Block, changes: dict[Path, Any]) -> None:
        if piece.value == "logprobs":
            if block.changed:
                changes[piece.path] = None
            return
        if piece.value != "name":
            return
        whole = block.new_name or block.name
        if block.codec.names == 1:
            if block.new_name is not None:
                changes[piece.path] = whole
        elif block.policed:  # several fragments carry the name: it leaves once, whole
            changes[piece.path] = whole if block.codec.names > 0 else DELETE
            block.codec.names = -1

    def _finish(self, piece: Piece, changes: dict[Path, Any]) -> None:
        written = self._choice(piece.value)
        reason = finish_after_removal(piece.text, removed=written.removed, kept=written.kept)
        if reason != piece.text:
            changes[piece.path] = reason

    # -- our own words -------------------------------------------------------------------------------------------------

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        if self._grammar.done:
            return b""
        out: list[bytes] = []
        states = self._grammar.choices
        if states.get(0) != "finished":
            out.append(self._said(0, message))
        for number, state in sorted(states.items()):
            if state != "finished":
                out.append(self._chunk([{"index": number, "delta": {}, "finish_reason": "stop"}]))
        if self._usage:  # it has no choices: clients that did not ask for it fail on `choices[0]`
            out.append(self._chunk([], usage=dict(usage) if usage else no_usage()))
        self._grammar.end(strict=True)
        return b"".join([*out, canonical(b"[DONE]")])

    def fail(self, status: int, code: str, message: str) -> bytes:
        if self._grammar.done:
            return b""
        self._grammar.end(strict=True)
        error = {"message": message, "type": "server_error", "param": None, "code": code}
        return canonical(dumps({"error": error}).encode()) + canonical(b"[DONE]")


def no_usage() -> dict[str, int]:
    """Usage of an answer that cost nothing: clients want it to be there."""
    return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def finish_after_removal(reason: str, *, removed: int, kept: int) -> str:
    """A finish reason that says "calls" is only true while a call is left; any other is upstream's to say."""
    return "stop" if removed and not kept and reason in ("tool_calls", "function_call") else reason


def _leave(read: ReadChunk, changes: dict[Path, Any], out: list[Item]) -> None:
    if FRAME in changes:
        event = changes.pop(FRAME)
        out.append((under(event, patch_chunk(read.chunk, changes)), None))
    elif not _is_empty(read.chunk.data, changes):
        out.append((patch_chunk(read.chunk, changes), None))


def _place(data: Any, owner: Path, block: Block, changes: dict[Path, Any]) -> None:
    """The index and the id of a fragment, as its call got them, whatever else would have left there."""
    out, id = block.codec.out, block.codec.id
    if out is None:
        return
    entry = data["choices"][owner[1]]["delta"]["tool_calls"][owner[4]]
    index = changes.get((*owner, "index"), entry.get("index"))
    if index is None and block.codec.index is None:
        index = 0  # no index means 0, if none of the call's fragments has one
    if type(index) is not int or index != out:
        changes[(*owner, "index")] = out
    if id and changes.get((*owner, "id"), entry.get("id")):
        changes[(*owner, "id")] = id


#: Members that say nothing by themselves.
_SILENT = frozenset({*ENVELOPE, "created", "obfuscation", "choices"})
_SPEECH = frozenset({"index", "delta", "message", "logprobs"})


def _is_empty(data: Any, changes: Mapping[Path, Any]) -> bool:
    """True for a chunk that would say nothing any more: it need not leave."""
    if any(data.get(key) for key in data if key not in _SILENT) or not all(map(_goes, changes.values())):
        return False
    choices = data.get("choices")
    return type(choices) is list and all(_says_nothing(each, at, changes) for at, each in enumerate(choices))


def _says_nothing(choice: Any, at: int, changes: Mapping[Path, Any]) -> bool:
    if (
        not isinstance(choice, dict)
        or not isinstance(choice.get("delta"), dict)
        or any(choice[key] for key in choice if key not in _SPEECH)
    ):
        return False
    for place in ("delta", "message"):
        said = choice.get(place) or {}
        if not isinstance(said, dict):
            return False
        for key, value in said.items():
            if value and not _goes(changes.get(("choices", at, place, key), value)):
                return False
    return True


def _goes(value: Any) -> bool:
    return value is DELETE or value == ""
