"""Writes a stream of chunks: raw where nothing was decided, patched where something was."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.wire.format import PieceKind, ReadChunk
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.openai_chat.changes import ChoiceOut, changes_of, is_touched, says_nothing
from luthien_guard.wire.openai_chat.grammar import Grammar
from luthien_guard.wire.openai_chat.made import counts, error_of
from luthien_guard.wire.splice import patch_chunk
from luthien_guard.wire.sse import canonical

__all__ = ["StreamWriter"]

Item = tuple[bytes, int | None]

_ENVELOPE: Final[Mapping[str, type]] = {"id": str, "created": int, "model": str, "system_fingerprint": str}


class StreamWriter:
    """Implements `Writer` for `stream: true`."""

    def __init__(self, model: str, call_id: str) -> None:
        self._call_id = call_id
        self._model = model or "unknown"
        self._grammar = Grammar()
        self._last: Any = None  # the last chunk that named itself: ours repeat its envelope
        self._usage: Mapping[str, Any] | None = None
        self._settled: dict[int, ChoiceOut] = {}  # choices of which a plain delta says nothing new

    @property
    def finished(self) -> bool:
        return self._grammar.done

    def write(self, chunks: Sequence[ReadChunk]) -> list[Item]:
        out: list[Item] = []
        for read in chunks:
            chunk = read.chunk
            if chunk.kind == "data":
                self._data(read, out)
                continue
            if chunk.kind == "done":
                self._grammar.end(strict=read.source is None)
            if is_touched(read.pieces):  # calls that end here without ever having left a byte: nothing to patch
                changes_of(read, self._grammar.choices, "")
            if chunk.raw:
                out.append((chunk.raw, read.source))
        return out

    def _data(self, read: ReadChunk, out: list[Item]) -> None:
        chunk, pieces = read.chunk, read.pieces
        if len(pieces) == 1 and read.source is not None:  # a plain delta: what nearly every chunk is
            piece = pieces[0]
            block = piece.block
            if block is not None and block.choice in self._settled and block.kind == "text":
                if piece.out is None and not block.changed:
                    out.append((chunk.raw, read.source))
                    return
                if piece.kind is PieceKind.DELTA and piece.out is not None:
                    out.append((patch_chunk(chunk, {piece.path: piece.out}), None))
                    return
        self._any(read, out)

    def _any(self, read: ReadChunk, out: list[Item]) -> None:
        chunk, data = read.chunk, read.chunk.data
        role_left = all(choice.role for choice in self._grammar.choices.values()) and self._last is not None
        if read.source is None:
            self._grammar.follow(data, strict=True)
        changes = {}
        if is_touched(read.pieces):
            changes = changes_of(read, self._grammar.choices, self._made_id())
        if changes and says_nothing(read, changes, role_left=role_left):
            return
        if read.source is not None:
            self._grammar.follow(data, strict=False)
        self._note(read)
        out.append((patch_chunk(chunk, changes), None) if changes else (chunk.raw, read.source))

    def _made_id(self) -> str:
        return "call_" + self._call_id.replace("-", "")[-12:]

    def _note(self, read: ReadChunk) -> None:
        """Remember what a chunk of our own has to repeat, and which choices are in the middle of their text."""
        data = read.chunk.data
        if isinstance(data, dict) and isinstance(data.get("id"), str) and data["id"]:
            self._last = data
        for piece in read.pieces:
            if piece.kind is PieceKind.USAGE and isinstance(piece.value, Mapping):
                self._usage = piece.value
        self._settled = {
            number: each
            for number, each in self._grammar.choices.items()
            if each.role and each.said and not each.finished
        }

    # -- our own words -------------------------------------------------------------------------------------------------

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        """The message as content of the first choice that is open, a finish_reason for each, usage, `[DONE]`."""
        if self._grammar.done:
            return b""
        choices = self._grammar.choices or {0: ChoiceOut()}
        still = sorted(number for number, each in choices.items() if not each.finished)
        out = [self._said(number, choices[number], message) for number in still[:1] if message]
        out += [self._chunk([{"index": number, "delta": {}, "finish_reason": "stop"}]) for number in still]
        out.append(self._chunk([], usage=counts(usage or self._usage)))
        self._grammar.end(strict=True)
        return b"".join([*out, canonical(b"[DONE]")])

    def fail(self, status: int, code: str, message: str) -> bytes:
        """An error object in the stream: the SDKs raise it."""
        if self._grammar.done:
            return b""
        self._grammar.end(strict=True)
        return canonical(dumps(error_of(status, code, message)).encode()) + canonical(b"[DONE]")

    def _said(self, number: int, state: ChoiceOut, text: str) -> bytes:
        delta = {} if state.role else {"role": "assistant"}
        delta["content"] = ("\n\n" if state.said else "") + text
        return self._chunk([{"index": number, "delta": delta, "finish_reason": None}])

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        last = self._last or {}
        data: dict[str, Any] = {
            "id": f"chatcmpl-{self._call_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self._model,
        }
        data.update({key: last[key] for key, kind in _ENVELOPE.items() if type(last.get(key)) is kind})
        data.update(choices=choices, **more)
        self._grammar.follow(data, strict=True)
        return canonical(dumps(data).encode())
