"""Reads a stream of chat completion chunks.

A choice is over when the stream is: `[DONE]` or the end of the bytes. Its `finish_reason` does not close anything,
because clients go on merging what comes after it, and so must we.
"""

from __future__ import annotations

from typing import Any

from luthien_guard.events import Channel, Chunk, ToolKind
from luthien_guard.wire.chat.fields import (
    CHANNELS,
    ENVELOPE,
    Envelope,
    arguments_piece,
    logprobs_of,
    parts_of,
    payload_of,
)
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.strings import opaque

__all__ = ["CallNotes", "StreamReader"]


class CallNotes:
    """What the writer has to know of a call: how its fragments spelled it."""

    __slots__ = ("conflict", "index", "names", "out")

    def __init__(self, index: int | None) -> None:
        self.index = index  # as upstream spelled it
        self.names = 0  # fragments that carried a name
        self.conflict = False  # another call has the same index
        self.out: int | None = None  # the index that leaves; the writer's


class _Choice:
    __slots__ = ("by_index", "calls", "finished", "texts")

    def __init__(self) -> None:
        self.texts: dict[str, Block] = {}
        self.calls: list[Block] = []
        self.by_index: dict[int, Block] = {}
        self.finished = False


class StreamReader:
    """Implements `Reader` for `stream: true`."""

    __slots__ = ("_choices", "_done", "_envelope", "_last", "id", "model", "unknown")

    repeats = True

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""
        self._choices: dict[int, _Choice] = {}
        self._envelope = Envelope()
        self._done = False
        self._last: dict[str, Any] = {}  # members of the chunk before that said nothing

    def read(self, chunk: Chunk) -> list[Piece]:
        if chunk.kind == "done":
            self._done = True
            return [*self._stops(), Piece(PieceKind.END)]
        data = chunk.data
        pieces: list[Piece] = []
        self.unknown = ""
        if type(data) is not dict:
            self.unknown = "a chunk that is no object"
            opaque(data, (), pieces)
            return pieces
        last = self._last
        for key, value in data.items():
            if key == "choices":
                self._read_choices(value, pieces)
            elif key in last and last[key] == value:
                continue  # the envelope, as in every chunk before
            else:
                self._read_member(key, value, pieces)
        if not self.id:
            self._name(data)
        return pieces

    def _read_member(self, key: str, value: Any, pieces: list[Piece]) -> None:
        """Anything but the choices."""
        before = len(pieces)
        if value is None or type(value) in (int, float, bool):
            if key not in _COUNTS:
                opaque({key: None}, (), pieces)
        elif key in ENVELOPE or key == "obfuscation":  # the latter is random filler against traffic analysis
            self._envelope.check(value, (key,), pieces)
        elif key == "usage":
            pieces.append(Piece(PieceKind.USAGE, path=(key,), value=value))
            opaque(value, (key,), pieces)
        elif key == "error":
            _failed(value, pieces)
        else:
            opaque({key: value}, (), pieces)
        if len(pieces) == before and key != "obfuscation":
            self._last[key] = value

    def close(self) -> list[Piece]:
        return self._stops()

    def _name(self, data: dict[str, Any]) -> None:
        id, model = data.get("id"), data.get("model")
        self.id = id if isinstance(id, str) else ""
        self.model = model if isinstance(model, str) else ""

    def _stops(self) -> list[Piece]:
        found: list[Piece] = []
        for choice in self._choices.values():
            for block in (*choice.texts.values(), *choice.calls):
                block.closed = choice.finished or self._done
                found.append(Piece(PieceKind.STOP, block=block))
        self._choices = {}
        return found

    def _read_choices(self, choices: Any, pieces: list[Piece]) -> None:
        if type(choices) is not list:
            opaque(choices, ("choices",), pieces)
            return
        for at, raw in enumerate(choices):
            path = ("choices", at)
            if type(raw) is not dict:
                opaque(raw, path, pieces)
                continue
            number = raw.get("index", 0)
            number = number if type(number) is int else 0
            choice = self._choices.get(number)
            if choice is None:
                choice = self._choices[number] = _Choice()
            self._read_choice(choice, number, raw, path, pieces)

    def _read_choice(
        self, choice: _Choice, number: int, raw: dict[str, Any], path: Path, pieces: list[Piece]
    ) -> None:
        finish = None
        for key, value in raw.items():
            if value is None:
                if key not in _CHOICE:
                    opaque({key: None}, path, pieces)
            elif key == "index":
                if type(value) is not int:
                    opaque(value, (*path, key), pieces)
            elif key == "delta":
                self._read_delta(choice, number, value, (*path, key), pieces)
            elif key == "finish_reason":
                finish = value
            elif key == "logprobs":
                self._read_logprobs(choice, raw, value, path, pieces)
            elif key == "message":
                self._read_echo(choice, number, value, (*path, key), pieces)
            else:
                opaque({key: value}, path, pieces)
        if finish is not None:
            self._envelope.check(finish, (*path, "finish_reason"), pieces)
            choice.finished = choice.finished or bool(finish)
            if finish:
                text = finish if type(finish) is str else ""
                pieces.append(Piece(PieceKind.FINISH, path=(*path, "finish_reason"), text=text, value=number))

    def _read_delta(self, choice: _Choice, number: int, delta: Any, path: Path, pieces: list[Piece]) -> None:
        if type(delta) is not dict:
            opaque(delta, path, pieces)
            return
        for key, value in delta.items():
            if value is None:
                if key not in _DELTA:
                    opaque({key: None}, path, pieces)
                continue
            channel = CHANNELS.get(key)
            if channel is not None:
                self._read_text(choice, number, key, channel, value, (*path, key), pieces)
            elif key == "role":
                self._envelope.check(value, (*path, key), pieces)
            elif key == "tool_calls":
                self._read_calls(choice, number, value, (*path, key), pieces)
            elif key == "function_call":
                self._read_legacy(choice, number, value, (*path, key), pieces)
            elif key == "audio" and type(value) is dict and type(value.get("transcript")) is str:
                text = value["transcript"]
                self._text(choice, number, key, "audio_transcript", (*path, key, "transcript"), text, pieces)
                opaque({k: v for k, v in value.items() if k != "transcript"}, (*path, key), pieces)
            else:
                opaque({key: value}, path, pieces)

    # -- texts ---------------------------------------------------------------------------------------------------------

    def _read_text(
        self,
        choice: _Choice,
        number: int,
        key: str,
        channel: Channel,
        value: Any,
        path: Path,
        pieces: list[Piece],
    ) -> None:
        if type(value) is str:
            if value:
                self._text(choice, number, key, channel, path, value, pieces)
        elif type(value) is list:
            for of, place, text in parts_of(value, path, pieces):
                self._text(
                    choice, number, f"{key}/{of}", of if key == "content" else channel, place, text, pieces
                )
        else:
            opaque(value, path, pieces)

    def _text(
        self,
        choice: _Choice,
        number: int,
        key: str,
        channel: Channel,
        path: Path,
        text: str,
        pieces: list[Piece],
    ) -> None:
        block = choice.texts.get(key)
        if block is None:
            block = choice.texts[key] = Block("text", choice=number, index=len(choice.texts), channel=channel)
            pieces.append(Piece(PieceKind.START, block=block))
        block.source.append(text)
        pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text))

    def _read_logprobs(
        self, choice: _Choice, raw: dict[str, Any], value: Any, path: Path, pieces: list[Piece]
    ) -> None:
        delta = raw.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else None
        block = choice.texts.get("content")
        logprobs_of(value, (*path, "logprobs"), block, text if isinstance(text, str) else "", pieces)

    def _read_echo(self, choice: _Choice, number: int, message: Any, path: Path, pieces: list[Piece]) -> None:
        """Some providers repeat the whole message so far in every chunk."""
        content = message.get("content") if isinstance(message, dict) else None
        block = choice.texts.get("content")
        if not isinstance(content, str):
            opaque(message, path, pieces)
            return
        place = (*path, "content")
        if block is not None and content == block.text:
            pieces.append(Piece(PieceKind.ECHO, block=block, path=place, text=content))
        elif content:
            self._text(choice, number, f"message/{len(choice.texts)}", "content", place, content, pieces)
        opaque({key: value for key, value in message.items() if key not in ("content", "role")}, path, pieces)
        self._envelope.check(message.get("role"), (*path, "role"), pieces)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _read_calls(self, choice: _Choice, number: int, calls: Any, path: Path, pieces: list[Piece]) -> None:
        if type(calls) is not list:
            opaque(calls, path, pieces)
            return
        for at, raw in enumerate(calls):
            owner = (*path, at)
            where, payload, name_key, arguments_key = (
                payload_of(raw) if type(raw) is dict else ("", None, "", "")
            )
            if type(raw) is not dict or (payload is not None and type(payload) is not dict):
                opaque(raw, owner, pieces, owner=owner)
                continue
            kind: ToolKind = "custom" if where == "custom" else "function"
            block = self._find(choice, number, raw, kind, owner, pieces)
            # even a fragment that says nothing belongs to its call, and goes when the call goes
            pieces.append(Piece(PieceKind.DERIVED, block=block, path=owner, owner=owner, value="entry"))
            self._name_of(block, payload, (*owner, where, name_key), owner, pieces)
            arguments = (payload or {}).get(arguments_key)
            if arguments is not None and arguments != "":
                pieces.append(arguments_piece(block, arguments, (*owner, where, arguments_key), owner))
            self._rest(raw, where, payload, (name_key, arguments_key), owner, pieces)

    def _rest(
        self,
        raw: dict[str, Any],
        where: str,
        payload: Any,
        known: tuple[str, str],
        owner: Path,
        pieces: list[Piece],
    ) -> None:
        """Everything of the entry that is not its name or its arguments."""
        for key, value in raw.items():
            if key in ("id", "type"):
                self._envelope.check(value, (*owner, key), pieces, owner=owner)
            elif key not in ("index", where):
                opaque({key: value}, owner, pieces, owner=owner)
            elif type(value) is str:
                opaque(value, (*owner, key), pieces, owner=owner)
        if payload:
            rest = {key: value for key, value in payload.items() if key not in known}
            opaque(rest, (*owner, where), pieces, owner=owner)

    def _find(
        self,
        choice: _Choice,
        number: int,
        raw: dict[str, Any],
        kind: ToolKind,
        owner: Path,
        pieces: list[Piece],
    ) -> Block:
        """The call that a fragment belongs to: by its index, unless it has a new id; without an index by its id;
        without either the last one. Clients do one or the other: where they would differ, the writer re-indexes."""
        index, id = raw.get("index"), raw.get("id")
        index = index if type(index) is int else None
        id = id if type(id) is str else ""
        known = choice.by_index.get(index) if index is not None else None
        if index is None:
            known = next((block for block in choice.calls if id and block.id == id), None)
            if known is None and not id and choice.calls:
                known = choice.calls[-1]
        elif known is not None and id and known.id and known.id != id:
            same = next((block for block in choice.calls if block.id == id), None)
            known.codec.conflict = True
            known = same
        if known is not None:
            known.id = known.id or id
            return known
        return self._new_call(choice, number, index, id, kind, owner, pieces)

    def _new_call(
        self,
        choice: _Choice,
        number: int,
        index: int | None,
        id: str,
        kind: ToolKind,
        owner: Path,
        pieces: list[Piece],
    ) -> Block:
        block = Block("call", choice=number, index=len(choice.calls), id=id, tool_kind=kind)
        block.codec = CallNotes(index)
        if index is not None:
            block.codec.conflict = index in choice.by_index
            choice.by_index[index] = block
        choice.calls.append(block)
        pieces.append(Piece(PieceKind.START, block=block, owner=owner))
        return block

    def _name_of(self, block: Block, payload: Any, path: Path, owner: Path, pieces: list[Piece]) -> None:
        """A name that is repeated in every fragment counts once; one that comes in fragments is put together."""
        name = (payload or {}).get(path[-1])
        if name is None or name == "":
            return
        if type(name) is not str:
            opaque(name, path, pieces, owner=owner)
            return
        block.codec.names += 1
        if not block.name:
            block.name = name
        elif name != block.name:
            block.name += name
        pieces.append(Piece(PieceKind.DERIVED, block=block, path=path, text=name, owner=owner, value="name"))

    def _read_legacy(self, choice: _Choice, number: int, value: Any, path: Path, pieces: list[Piece]) -> None:
        if type(value) is not dict:
            opaque(value, path, pieces)
            return
        block = next((block for block in choice.calls if block.tool_kind == "legacy"), None)
        if block is None:
            block = self._new_call(choice, number, None, "", "legacy", path, pieces)
        self._name_of(block, value, (*path, "name"), path, pieces)
        arguments = value.get("arguments")
        if arguments is not None and arguments != "":
            pieces.append(arguments_piece(block, arguments, (*path, "arguments"), path))
        rest = {key: one for key, one in value.items() if key not in ("name", "arguments")}
        opaque(rest, path, pieces, owner=path)


# members that are known, so that their names need no look
_COUNTS = frozenset({"created", "usage", "error", *ENVELOPE, "obfuscation"})
_CHOICE = frozenset({"logprobs", "finish_reason", "delta"})
_DELTA = frozenset({"role", "tool_calls", "function_call", "audio", *CHANNELS})


def _failed(error: Any, pieces: list[Piece]) -> None:
    message = error.get("message") if isinstance(error, dict) else error
    text = message if isinstance(message, str) else "an error without a message"
    pieces.append(Piece(PieceKind.FAILED, path=("error",), text=text))
    rest = (
        {key: value for key, value in error.items() if key != "message"} if isinstance(error, dict) else None
    )
    opaque(rest, ("error",), pieces)
    if not isinstance(message, str):
        opaque(message, ("error", "message"), pieces)
