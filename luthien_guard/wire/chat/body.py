"""A chat completion that is not streamed: one body, read and written whole."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from luthien_guard.events import Channel, Chunk
from luthien_guard.wire.chat.calls import read_whole, read_whole_legacy
from luthien_guard.wire.chat.changes import put, without_empty_lists
from luthien_guard.wire.chat.fields import (
    CHANNELS,
    ENVELOPE,
    Envelope,
    failed,
    follow,
    logprobs_of,
    of_one_type,
    texts_of,
)
from luthien_guard.wire.chat.indices import MAX_CHOICES, read_choice_index
from luthien_guard.wire.chat.writer import finish_after_removal, no_usage
from luthien_guard.wire.foreign import left_out, no_answer, of_no_kind
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.indices import no_list
from luthien_guard.wire.json_text import DELETE, value_at
from luthien_guard.wire.splice import patch_chunk
from luthien_guard.wire.strings import opaque

__all__ = ["BodyReader", "BodyWriter"]


class BodyReader:
    """Implements `Reader` for a body."""

    def __init__(self) -> None:
        self.model = ""
        self.id = ""
        self.unknown = ""
        self._envelope = Envelope()
        self._blocks = 0

    def close(self) -> list[Piece]:
        return []

    def read(self, chunk: Chunk) -> list[Piece]:
        data = chunk.data
        pieces: list[Piece] = []
        self.unknown = ""
        if not isinstance(data, dict):
            self.unknown = of_no_kind(data, "a body that is no object") if chunk.raw.strip() else ""
            opaque(data, (), pieces)
            return pieces
        for key in ("id", "model"):
            if isinstance(data.get(key), str):
                setattr(self, key, data[key])
        for key, value in data.items():
            if key == "choices":
                self._choices(value, pieces)
            elif key == "usage" and value is not None:
                pieces.append(Piece(PieceKind.USAGE, path=(key,), value=value))
                opaque(value, (key,), pieces)
            elif key == "error":
                failed(value, (key,), pieces)
            elif key in ENVELOPE:
                self._envelope.check(value, (key,), pieces)
            else:
                opaque({key: value}, (), pieces)
        if "choices" not in data and not data.get("error"):
            self.unknown = no_answer(data, pieces) or self.unknown
        self._strange(left_out(pieces))
        return pieces

    def _strange(self, why: str) -> None:
        """The body is not what the format says ("": it is). What stands in it is still read."""
        self.unknown = self.unknown or why

    def _choices(self, choices: Any, pieces: list[Piece]) -> None:
        if not isinstance(choices, list):
            if choices is not None:
                self._strange(no_list(choices, ("choices",), [], pieces))
            return
        if len(choices) > MAX_CHOICES:
            self._strange(f"more than {MAX_CHOICES} choices")
        for at, choice in enumerate(choices):
            self._choice(choice, at, ("choices", at), pieces)

    def _choice(self, choice: Any, at: int, path: Path, pieces: list[Piece]) -> None:
        if not isinstance(choice, dict):
            opaque(choice, path, pieces)
            self._strange("a choice that is no object")
            return
        index = choice.get("index")
        number, why = read_choice_index(at if index is None else index, at, path, pieces)
        self._strange(why)
        content = None
        for key, value in choice.items():
            if key == "message":
                content = self._message(value, number, (*path, key), pieces)
            elif key == "delta":
                self._message(value, number, (*path, key), pieces)
            elif key not in ("finish_reason", "logprobs", "index"):
                opaque({key: value}, path, pieces)
            elif key == "index":
                opaque(value, (*path, key), pieces)
        if choice.get("logprobs") is not None:
            text = content.text if content is not None else ""
            logprobs_of(choice["logprobs"], (*path, "logprobs"), content, text, pieces)
        finish = choice.get("finish_reason")
        self._envelope.check(finish, (*path, "finish_reason"), pieces)
        if isinstance(finish, str):
            pieces.append(Piece(PieceKind.FINISH, path=(*path, "finish_reason"), text=finish, value=number))

    def _message(self, message: Any, number: int, path: Path, pieces: list[Piece]) -> Block | None:
        """The pieces of a message; gives the block of its content, if it has one."""
        if not isinstance(message, dict):
            opaque(message, path, pieces)
            if message is not None:
                self._strange("a message that is no object")
            return None
        texts = _Texts(number, self._blocks)
        why = ""
        for key, value in sorted(message.items(), key=_is_refusal):
            why = self._member(texts, key, value, (*path, key), pieces) or why
        self._strange(why)
        self._blocks += len(texts.all)
        texts.end(pieces)
        return texts.all.get("content")

    def _member(self, texts: _Texts, key: str, value: Any, path: Path, pieces: list[Piece]) -> str:
        """Gives why the calls in it are of no known kind."""
        if (channel := CHANNELS.get(key)) is not None:
            self._strange(texts.read(key, channel, value, path, pieces))
        elif key == "role":
            self._envelope.check(value, path, pieces)
        elif key == "tool_calls":
            return read_whole(value, texts.number, path, self._envelope, pieces)
        elif key == "function_call":
            return read_whole_legacy(value, texts.number, path, pieces)
        elif key == "audio" and isinstance(value, dict) and isinstance(value.get("transcript"), str):
            texts.add(key, "audio_transcript", (*path, "transcript"), value["transcript"], pieces)
            opaque({k: v for k, v in value.items() if k != "transcript"}, path, pieces)
        else:
            opaque({key: value}, path[:-1], pieces)
        return ""


class _Texts:
    """The texts of one message: one of each name, as a string or in parts. `first`: the index of the first one's block."""

    def __init__(self, number: int, first: int) -> None:
        self.number = number  # of the choice
        self.all: dict[str, Block] = {}
        self._first = first

    def read(self, key: str, channel: Channel, value: Any, path: Path, pieces: list[Piece]) -> str:
        """Gives why it is of no known kind, "" where it is."""
        if isinstance(value, str):
            self.add(key, channel, path, value, pieces)
        elif isinstance(value, list):
            for name, into, place, text in texts_of(key, channel, value, path, pieces):
                self.add(name, into, place, text, pieces)
            of_one_type(value, path, pieces, begun=False)
        elif value is not None:
            opaque(value, path, pieces)
            return "a text that is neither string nor list"
        return ""

    def add(self, name: str, channel: Channel, path: Path, text: str, pieces: list[Piece]) -> None:
        if not text:
            return
        block = self.all.get(name)
        if block is None:
            at = self._first + len(self.all)
            block = self.all[name] = Block("text", choice=self.number, index=at, channel=channel)
            if name == "refusal":
                follow(block, self.all.get("content"), pieces)
            pieces.append(Piece(PieceKind.START, block=block))
        block.source.append(text)
        pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text))

    def end(self, pieces: list[Piece]) -> None:
        for block in self.all.values():
            if not block.closed:
                block.closed = True
                pieces.append(Piece(PieceKind.STOP, block=block))


class BodyWriter:
    """Implements `Writer` for a body."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._call_id = call_id
        self.finished = False

    def write(self, chunks: Sequence[ReadChunk]) -> list[tuple[bytes, int | None]]:
        out: list[tuple[bytes, int | None]] = []
        for read in chunks:
            if not read.chunk.raw:
                continue
            self.finished = True
            changes = self._changes(read)
            out.append((patch_chunk(read.chunk, changes), None) if changes else (read.chunk.raw, read.source))
        return out

    def _changes(self, read: ReadChunk) -> dict[Path, Any]:
        changes: dict[Path, Any] = {}
        said: dict[Path, list[str]] = {}  # explanations, by the message that they go into
        kept: dict[int, int] = {}
        removed: dict[int, int] = {}
        for piece in read.pieces:
            block = piece.block
            if piece.kind is PieceKind.FINISH:
                reason = finish_after_removal(
                    piece.text, removed=removed.get(piece.value, 0), kept=kept.get(piece.value, 0)
                )
                if reason != piece.text:
                    changes[piece.path] = reason
            elif block is None:
                if piece.kind is PieceKind.DERIVED:
                    changes[piece.path] = piece.value[1]
            elif piece.kind is PieceKind.START and block.kind == "call":
                (removed if block.removed else kept)[block.choice] = 1
                if block.removed:
                    changes[piece.owner] = DELETE
                    message = piece.owner[:3]  # choices, its place, "message"
                    said.setdefault(message, []).extend([block.replacement] if block.replacement else [])
            elif not block.removed and piece.kind is PieceKind.DERIVED:
                self._derived(piece, block, changes)
            elif not block.removed and piece.out is not None:
                put(piece, changes)
        if said:
            changes = without_empty_lists(read.chunk.data, changes)
        for message, texts in said.items():
            _say(read.chunk.data, message, texts, changes)
        return changes

    def _derived(self, piece: Piece, block: Block, changes: dict[Path, Any]) -> None:
        if piece.value == "logprobs" and block.changed:
            changes[piece.path] = None
        elif piece.value == "name" and block.new_name is not None:
            changes[piece.path] = block.new_name

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        self.finished = True
        answer = {"role": "assistant", "content": message, "refusal": None}
        body = {
            "id": f"chatcmpl-{self._call_id}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._model,
            "choices": [{"index": 0, "message": answer, "logprobs": None, "finish_reason": "stop"}],
            "usage": dict(usage) if usage else no_usage(),
        }
        return json.dumps(body, ensure_ascii=False).encode()

    def fail(self, status: int, code: str, message: str) -> bytes:
        self.finished = True
        error = {"message": message, "type": "server_error", "param": None, "code": code}
        return json.dumps({"error": error}, ensure_ascii=False).encode()


def _is_refusal(member: tuple[str, Any]) -> bool:
    """Clients that read it as the rest of the content do so wherever it stands."""
    return member[0] == "refusal"


def _say(data: Any, message: Path, texts: list[str], changes: dict[Path, Any]) -> None:
    """Put the explanations behind the message's content."""
    if not texts:
        return
    path = (*message, "content")
    content = value_at(data, message).get("content")
    if isinstance(content, list):
        changes[(*path, len(content))] = {"type": "text", "text": "\n\n".join(texts)}
        return
    content = changes.get(path, content)
    said = [content] if isinstance(content, str) and content else []  # anything else says nothing
    changes[path] = "\n\n".join([*said, *texts])
