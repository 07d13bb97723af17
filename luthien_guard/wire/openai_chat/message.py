"""Reads one message, or one delta of it: texts and calls into blocks, everything else into OPAQUE pieces."""

from __future__ import annotations

from typing import Any

from luthien_guard.events import Channel
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.openai_chat.calls import Calls, payloads_of
from luthien_guard.wire.openai_chat.fields import CHANNELS, Envelope, add_text_once, content_parts
from luthien_guard.wire.strings import opaque

__all__ = ["Choice", "Citations"]

_START, _DELTA, _DERIVED, _ECHO = PieceKind.START, PieceKind.DELTA, PieceKind.DERIVED, PieceKind.ECHO


class Citations:
    """The sources of one response. Perplexity repeats all of them in every chunk: those are echoes of the first."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, Block] = {}

    def add(self, text: Any, path: Path, pieces: list[Piece], *, choice: int = 0) -> None:
        if type(text) is not str:
            opaque(text, path, pieces)
            return
        known = self._known.get(text)
        if known is not None:
            pieces.append(Piece(_ECHO, block=known, path=path, text=text))
        elif text:
            block = self._known[text] = Block("text", choice=choice, index=len(self._known), channel="citation")
            add_text_once(block, path, text, pieces)

    def add_annotations(self, value: Any, path: Path, pieces: list[Piece], choice: int) -> None:
        """`annotations`: the url and the title of a url_citation are citations."""
        for at, each in enumerate(value if isinstance(value, list) else ()):
            source = each.get("url_citation") if isinstance(each, dict) else None
            if not isinstance(source, dict):
                opaque(each, (*path, at), pieces)
                continue
            for key, text in source.items():
                if key in ("url", "title"):
                    self.add(text, (*path, at, "url_citation", key), pieces, choice=choice)
            rest = {key: text for key, text in source.items() if key not in ("url", "title")}
            opaque(rest, (*path, at, "url_citation"), pieces)
            known = ("type",) if each.get("type") == "url_citation" else ()
            opaque({k: v for k, v in each.items() if k != "url_citation" and k not in known}, (*path, at), pieces)
        if not isinstance(value, list):
            opaque(value, path, pieces)


class Choice:
    """One answer of a response: its texts by the member that they stand in, its calls, and how it ended."""

    __slots__ = ("_citations", "_envelope", "calls", "finished", "legacy", "number", "said", "texts")

    def __init__(self, number: int, envelope: Envelope, citations: Citations, past: list[Block]) -> None:
        self.number = number
        self.texts: dict[str, Block] = {}
        self.calls = Calls(past)
        self.legacy: Block | None = None
        self.finished = False
        self.said: dict[str, Piece] = {}  # the DELTA of each member in this chunk
        self._envelope = envelope
        self._citations = citations

    def blocks(self) -> list[Block]:
        return [*self.texts.values(), *self.calls.blocks]

    def read(self, message: Any, path: Path, pieces: list[Piece], *, whole: bool) -> None:
        """A delta, or with `whole` a message that is not streamed."""
        self.said = {}
        if type(message) is not dict:
            opaque(message, path, pieces)
            return
        for key, value in message.items():
            if type(value) is str and key in CHANNELS:
                if value:
                    self.text(key, CHANNELS[key], (*path, key), value, pieces)
            elif key != "reasoning_details":
                self._member(key, value, (*path, key), pieces, whole)
        if "reasoning_details" in message:
            self._details(message["reasoning_details"], (*path, "reasoning_details"), pieces)

    def _member(self, key: str, value: Any, path: Path, pieces: list[Piece], whole: bool) -> None:
        if key == "role":
            self._envelope.check(value, path, pieces)
        elif key in CHANNELS and type(value) is list:
            for channel, place, text in content_parts(value, path, pieces):
                of = channel if key == "content" else CHANNELS[key]
                self.text(key if of == CHANNELS[key] else f"{key}/{of}", of, place, text, pieces)
        elif key == "tool_calls" and type(value) is list:
            for at, entry in enumerate(value):
                self._entry(entry, (*path, at), pieces, None if whole else value)
        elif key == "function_call" and type(value) is dict:
            self._legacy(value, path, pieces)
        elif key == "audio" and type(value) is dict:
            self._audio(value, path, pieces)
        elif key == "annotations":
            self._citations.add_annotations(value, path, pieces, self.number)
        elif value is not None or key not in _MEMBERS:
            opaque({key: value}, path[:-1], pieces)

    def _audio(self, audio: dict[str, Any], path: Path, pieces: list[Piece]) -> None:
        for key, value in audio.items():
            if key == "transcript" and type(value) is str:
                if value:
                    self.text("audio", "audio_transcript", (*path, key), value, pieces)
            elif key == "id":
                self._envelope.check(value, (*path, key), pieces)
            else:  # `data` is base64: nobody can read it here, but nothing goes unseen
                opaque({key: value}, path, pieces)

    # -- texts ---------------------------------------------------------------------------------------------------------

    def text(self, key: str, channel: Channel, path: Path, text: str, pieces: list[Piece]) -> None:
        """More text of the block that the member `key` has in this choice."""
        block = self.texts.get(key)
        if block is None:
            block = self.texts[key] = Block("text", choice=self.number, index=len(self.texts), channel=channel)
            if key == "reasoning_details":
                block.writable = False  # a signature over it may follow
            pieces.append(Piece(_START, block=block))
        block.source.append(text)
        piece = Piece(_DELTA, block=block, path=path, text=text)
        if text:
            self.said[key] = piece
        pieces.append(piece)

    def _details(self, details: Any, path: Path, pieces: list[Piece]) -> None:
        """OpenRouter's `reasoning_details` say `reasoning` again, with signatures: they go when that was changed."""
        if type(details) is not list:
            opaque({"reasoning_details": details} if details is not None else None, path[:-1], pieces)
            return
        texts: list[tuple[Path, str]] = []
        for at, each in enumerate(details):
            found = each if type(each) is dict else {}
            texts += [((*path, at, key), found[key]) for key in ("text", "summary") if type(found.get(key)) is str]
            rest = {key: value for key, value in found.items() if not _is_detail(key, value)}
            opaque(rest if type(each) is dict else each, (*path, at), pieces)
        delta = self.said.get("reasoning")
        if delta is None or "".join(text for _, text in texts) != delta.text:
            for place, text in texts:
                if text:
                    self.text("reasoning_details", "reasoning", place, text, pieces)
        if "reasoning" in self.texts:
            pieces.append(Piece(_DERIVED, block=self.texts["reasoning"], path=path, value="details"))

    def repeat(self, message: Any, path: Path, pieces: list[Piece]) -> None:
        """Perplexity sends the message so far beside each delta. What it says otherwise is a text of its own."""
        if type(message) is not dict:
            opaque(message, path, pieces)
            return
        for key, value in message.items():
            block = self.texts.get(key)
            if block is not None and type(value) is str and value == block.text:
                pieces.append(Piece(_ECHO, block=block, path=(*path, key), text=value))
            elif type(value) is str and key in CHANNELS:
                if value:
                    self.text(f"message/{len(self.texts)}", CHANNELS[key], (*path, key), value, pieces)
            else:
                self._member(key, value, (*path, key), pieces, True)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _entry(self, entry: Any, owner: Path, pieces: list[Piece], listed: Any) -> None:
        """An entry of `tool_calls`; `listed` is the list where entries are fragments, None where they are whole."""
        if type(entry) is not dict:
            opaque(entry, owner, pieces, owner=owner)
            return
        for member, inner, kind, payload in payloads_of(entry):
            name = payload.get("name") if payload is not None else None
            if listed is None:
                block, new = self.calls.begin_whole(self.number, entry, kind or "function"), True
            else:
                block, new = self.calls.place(self.number, entry, kind, name, listed)
            # also a fragment that says nothing belongs to its call, and goes when the call goes
            kind_of_piece = _START if new else _DERIVED
            pieces.append(Piece(kind_of_piece, block=block, path=owner, owner=owner, value="entry"))
            if payload is not None:
                self._payload(block, payload, inner, (*owner, member), owner, pieces)
        self._rest(entry, owner, pieces)

    def _rest(self, entry: dict[str, Any], owner: Path, pieces: list[Piece]) -> None:
        for key, value in entry.items():
            if key in ("id", "type"):
                self._envelope.check(value, (*owner, key), pieces, owner=owner)
            elif key not in ("function", "custom") or type(value) is not dict:
                if value is not None or key not in ("function", "custom", "index"):
                    opaque({key: value}, owner, pieces, owner=owner)

    def _payload(
        self, block: Block, payload: dict[str, Any], inner: str, path: Path, owner: Path, pieces: list[Piece]
    ) -> None:
        """The name and the arguments of a call, or of a fragment of it."""
        for key, value in payload.items():
            place = (*path, key)
            if key == "name" and type(value) is str:
                if value:
                    self.calls.add_name(block, value)
                    pieces.append(Piece(_DERIVED, block=block, path=place, text=value, owner=owner, value="name"))
            elif key == inner and value is not None:
                if value != "":
                    pieces.append(_arguments(block, value, place, owner))
            elif value is not None or key not in ("name", inner):
                opaque({key: value}, path, pieces, owner=owner)

    def _legacy(self, payload: dict[str, Any], path: Path, pieces: list[Piece]) -> None:
        """`function_call`: at most one a choice."""
        new = self.legacy is None
        if self.legacy is None:
            self.legacy = self.calls.begin_whole(self.number, {}, "legacy")
        self.legacy.codec.entries += 1
        entry = _START if new else _DERIVED
        pieces.append(Piece(entry, block=self.legacy, path=path, owner=path, value="entry"))
        self._payload(self.legacy, payload, "arguments", path, path, pieces)


_MEMBERS = frozenset({*CHANNELS, "tool_calls", "function_call", "audio"})


def _is_detail(key: str, value: Any) -> bool:
    return (key in ("text", "summary") and type(value) is str) or (key == "type" and value in _DETAILS)


_DETAILS = ("reasoning.text", "reasoning.summary", "reasoning.encrypted")


def _arguments(block: Block, value: Any, path: Path, owner: Path) -> Piece:
    """Arguments are a string; some providers send the object itself."""
    is_json = type(value) is not str
    text = dumps(value) if is_json else value
    if is_json and block.source:
        block.codec.calls.irregular = True  # the rest of a string that is an object is nothing that all clients read
    block.source.append(text)
    return Piece(_DELTA, block=block, path=path, text=text, owner=owner, is_json=is_json)
