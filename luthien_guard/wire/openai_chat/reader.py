"""Reads a chat completion: a stream of chunks, or a body, which is a stream of one.

A choice is over when the stream is: with `[DONE]` or with the last byte. Its `finish_reason` closes nothing, because
clients go on merging what comes after it, and so must we.
"""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.events import Chunk
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.openai_chat.fields import (
    ENVELOPE,
    FILLER,
    FILTERS,
    Envelope,
    add_error,
    add_filters,
    add_logprobs,
    mirrors,
    number_of,
)
from luthien_guard.wire.openai_chat.message import Choice, Citations
from luthien_guard.wire.strings import opaque

__all__ = ["ChatReader"]

#: The members that need no word of their own while they are null or a number.
_TOP: Final = frozenset({"created", "usage", "error", "choices", "citations", *ENVELOPE, *FILLER, *FILTERS})
_IN_CHOICE: Final = frozenset({"delta", "message", "text", "logprobs", "finish_reason", "native_finish_reason",
                               "stop_reason", "error", "index", "content_filter_results"})  # fmt: skip
#: Long lists that Perplexity repeats in each chunk and that no client puts together: seen once is seen.
_REPEATED: Final = frozenset({"search_results", "images", "related_questions"})
_FIRST: Final[Path] = ("choices", 0, "delta", "content")
_DELTA: Final = PieceKind.DELTA


class ChatReader:
    """Implements `Reader`."""

    def __init__(self, *, stream: bool) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""
        self._stream = stream
        self._envelope = Envelope()
        self._citations = Citations()
        self._choices: dict[int, Choice] = {}
        self._past: list[Block] = []  # calls that ended with [DONE]
        self._done = False
        # what the chunk before said around its text, where that was nothing to anybody
        self._quiet: dict[str, Any] | None = None
        self._frame: dict[str, Any] | None = None
        self._framed: Choice | None = None
        self._repeated: dict[str, Any] = {}

    def read(self, chunk: Chunk) -> list[Piece]:
        if chunk.kind == "done":
            self._done = True
            return [*self._stops(), Piece(PieceKind.END)]
        data = chunk.data
        pieces: list[Piece] = []
        self.unknown = "a chunk behind [DONE]" if self._done else ""
        if type(data) is not dict:
            if data is not None or chunk.raw.strip():
                self.unknown = "no JSON object"
            opaque(data, (), pieces)
            return pieces
        around = data.copy()
        choices = around.pop("choices", None)
        if "obfuscation" in around:
            self._envelope.check(around.pop("obfuscation"), ("obfuscation",), pieces)
        if around != self._quiet:
            self._members(around, pieces)
            if not self.id:
                self._name(data)
        if type(choices) is list:
            for at, each in enumerate(choices):
                self._choice(each, at, pieces)
        elif choices is not None:
            opaque(choices, ("choices",), pieces)
        return pieces

    def close(self) -> list[Piece]:
        return self._stops()

    def _name(self, data: dict[str, Any]) -> None:
        id, model = data.get("id"), data.get("model")
        self.id = id if isinstance(id, str) else ""
        self.model = model if isinstance(model, str) else ""

    def _stops(self) -> list[Piece]:
        found: list[Piece] = []
        for choice in self._choices.values():
            for block in choice.blocks():
                block.closed = choice.finished or self._done or not self._stream
                found.append(Piece(PieceKind.STOP, block=block))
            self._past += choice.calls.blocks
        self._choices = {}
        self._frame = None
        return found

    # -- the outer object ----------------------------------------------------------------------------------------------

    def _members(self, around: dict[str, Any], pieces: list[Piece]) -> None:
        before = len(pieces)
        for key, value in around.items():
            if value is None or type(value) in (int, float, bool):
                if key not in _TOP:
                    opaque({key: None}, (), pieces)
            elif key in ENVELOPE or key in FILLER:
                self._envelope.check(value, (key,), pieces)
            else:
                self._member(key, value, pieces)
        self._quiet = around if len(pieces) == before else None

    def _member(self, key: str, value: Any, pieces: list[Piece]) -> None:
        if key == "usage":
            pieces.append(Piece(PieceKind.USAGE, path=(key,), value=value))
            opaque(value, (key,), pieces)
        elif key == "error":
            add_error(value, (key,), pieces)
        elif key == "citations" and type(value) is list:
            for at, text in enumerate(value):
                self._citations.add(text, (key, at), pieces)
        elif key in FILTERS:
            add_filters(value, (key,), pieces)
        elif key not in _REPEATED or self._repeated.get(key) != value:
            if key in _REPEATED:
                self._repeated[key] = value
            opaque({key: value}, (), pieces)

    # -- choices -------------------------------------------------------------------------------------------------------

    def _choice(self, raw: Any, at: int, pieces: list[Piece]) -> None:
        if type(raw) is not dict:
            opaque(raw, ("choices", at), pieces)
            return
        frame = raw.copy()
        delta = frame.pop("delta", None)
        choice = self._framed
        if choice is None or at or frame != self._frame or type(delta) is not dict:
            self._any_choice(raw, frame, at, pieces)
            return
        if len(delta) == 1 and type(text := delta.get("content")) is str:  # what nearly every chunk is
            block = choice.texts.get("content")
            if block is not None:
                if text:
                    block.source.append(text)
                    pieces.append(Piece(_DELTA, block=block, path=_FIRST, text=text))
                return
        choice.read(delta, ("choices", 0, "delta"), pieces, whole=False)

    def _any_choice(self, raw: dict[str, Any], frame: dict[str, Any], at: int, pieces: list[Piece]) -> None:
        path: Path = ("choices", at)
        number = number_of(raw.get("index"), at)
        choice = self._choices.get(number)
        if choice is None or not self._stream:
            self._choices[number if self._stream else at] = choice = self._new_choice(number)
        whole = not self._stream
        if raw.get("delta") is not None:
            choice.read(raw["delta"], (*path, "delta"), pieces, whole=whole)
        else:
            choice.said = {}
        said = dict(choice.said)
        before = len(pieces)
        if raw.get("message") is not None:
            if whole and not said:
                choice.read(raw["message"], (*path, "message"), pieces, whole=True)
                said = dict(choice.said)
            else:
                choice.repeat(raw["message"], (*path, "message"), pieces)
        self._text(choice, raw.get("text"), (*path, "text"), said, pieces)
        if raw.get("logprobs") is not None:
            add_logprobs(raw["logprobs"], (*path, "logprobs"), choice.texts, said, pieces)
        for key, value in frame.items():
            self._in_choice(key, value, path, pieces)
        if whole:
            pieces += self._stops()
        self._finish(choice, raw.get("finish_reason"), (*path, "finish_reason"), pieces)
        quiet = len(pieces) == before and at == 0 and self._stream
        self._frame, self._framed = (frame, choice) if quiet else (None, None)

    def _new_choice(self, number: int) -> Choice:
        past = [block for block in self._past if block.choice == number]
        return Choice(number, self._envelope, self._citations, past)

    def _text(self, choice: Choice, text: Any, path: Path, said: dict[str, Piece], pieces: list[Piece]) -> None:
        """`text` is the content of the older completions API; Together sends it beside the delta."""
        delta = said.get("content")
        if mirrors(text, delta):
            assert delta is not None
            pieces.append(Piece(PieceKind.DERIVED, block=delta.block, path=path, text=text, value=delta))
        elif type(text) is str:
            if text:
                choice.text("text", "content", path, text, pieces)
        else:
            opaque(text, path, pieces)

    def _in_choice(self, key: str, value: Any, path: Path, pieces: list[Piece]) -> None:
        if key in ("delta", "message", "text", "logprobs", "finish_reason"):
            return
        if value is None or type(value) in (int, float, bool):
            if key not in _IN_CHOICE:
                opaque({key: None}, path, pieces)
        elif key in ("native_finish_reason", "stop_reason"):
            self._envelope.check(value, (*path, key), pieces)
        elif key == "error":
            add_error(value, (*path, key), pieces)
        elif key in FILTERS:
            add_filters(value, (*path, key), pieces)
        else:
            opaque({key: value}, path, pieces)

    def _finish(self, choice: Choice, reason: Any, path: Path, pieces: list[Piece]) -> None:
        self._envelope.check(reason, path, pieces)
        if reason is None or reason == "":
            return
        choice.finished = True
        text = reason if type(reason) is str else ""
        pieces.append(Piece(PieceKind.FINISH, path=path, text=text, value=choice))
