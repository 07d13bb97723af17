"""A chat completion that is not streamed: one body, read and written whole."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
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
from luthien_guard.wire.chat.writer import finish_after_removal, no_usage, value_out
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.json_text import DELETE
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
        if not isinstance(data, dict):
            self.unknown = "a body that is no object" if chunk.raw.strip() else ""
            opaque(data, (), pieces)
            return pieces
        for key in ("id", "model"):
            if isinstance(data.get(key), str):
                setattr(self, key, data[key])
        for key, value in data.items():
            if key == "choices" and isinstance(value, list):
                for at, choice in enumerate(value):
                    self._choice(choice, at, (key, at), pieces)
            elif key == "usage" and value is not None:
                pieces.append(Piece(PieceKind.USAGE, path=(key,), value=value))
                opaque(value, (key,), pieces)
            elif key == "error" and value:
                self._error(value, pieces)
            elif key in ENVELOPE:
                self._envelope.check(value, (key,), pieces)
            else:
                opaque({key: value}, (), pieces)
        return pieces

    def _error(self, error: Any, pieces: list[Piece]) -> None:
        message = error.get("message") if isinstance(error, dict) else error
        text = message if isinstance(message, str) else "an error without a message"
        pieces.append(Piece(PieceKind.FAILED, path=("error",), text=text))
        opaque(error, ("error",), pieces)

    def _choice(self, choice: Any, at: int, path: Path, pieces: list[Piece]) -> None:
        if not isinstance(choice, dict):
            opaque(choice, path, pieces)
            return
        number = choice.get("index")
        number = number if type(number) is int else at
        content = None
        for key, value in choice.items():
            if key == "message" and isinstance(value, dict):
                content = self._message(value, number, (*path, key), pieces)
            elif key == "delta" and isinstance(value, dict):
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

    def _message(self, message: dict[str, Any], number: int, path: Path, pieces: list[Piece]) -> Block | None:
        """The pieces of a message; gives the block of its plain content, if it has one."""
        found: Block | None = None
        for key, value in message.items():
            channel = CHANNELS.get(key)
            if channel is not None and isinstance(value, str):
                block = self._text(channel, number, (*path, key), value, pieces)
                found = block if key == "content" else found
            elif channel is not None and isinstance(value, list):
                for of, place, text in parts_of(value, (*path, key), pieces):
                    self._text(of if key == "content" else channel, number, place, text, pieces)
            elif key == "role":
                self._envelope.check(value, (*path, key), pieces)
            elif key == "tool_calls" and isinstance(value, list):
                for at, call in enumerate(value):
                    self._call(call, number, (*path, key, at), pieces)
            elif key == "function_call" and isinstance(value, dict):
                self._payload(Block("call", choice=number, tool_kind="legacy"), value, "name", "arguments", (*path, key), (*path, key), pieces)
            elif key == "audio" and isinstance(value, dict) and isinstance(value.get("transcript"), str):
                self._text("audio_transcript", number, (*path, key, "transcript"), value["transcript"], pieces)
                opaque({k: v for k, v in value.items() if k != "transcript"}, (*path, key), pieces)
            else:
                opaque({key: value}, path, pieces)
        return found

    def _text(self, channel: Channel, number: int, path: Path, text: str, pieces: list[Piece]) -> Block | None:
        if not text:
            return None
        block = Block("text", choice=number, index=self._blocks, channel=channel)
        block.closed = True
        block.source.append(text)
        self._blocks += 1
        pieces.append(Piece(PieceKind.START, block=block))
        pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text))
        pieces.append(Piece(PieceKind.STOP, block=block))
        return block

    def _call(self, call: Any, number: int, owner: Path, pieces: list[Piece]) -> None:
        where, payload, name_key, arguments_key = payload_of(call) if isinstance(call, dict) else ("", None, "", "")
        if not isinstance(call, dict) or not isinstance(payload, dict):
            opaque(call, owner, pieces, owner=owner)
            return
        kind: ToolKind = "custom" if where == "custom" else "function"
        id = call.get("id")
        block = Block("call", choice=number, index=int(owner[-1]), id=id if isinstance(id, str) else "", tool_kind=kind)
        for key, value in call.items():
            if key in ("id", "type"):
                self._envelope.check(value, (*owner, key), pieces, owner=owner)
            elif key != where:
                opaque({key: value}, owner, pieces, owner=owner)
        self._payload(block, payload, name_key, arguments_key, (*owner, where), owner, pieces)

    def _payload(
        self, block: Block, payload: dict[str, Any], name_key: str, arguments_key: str, path: Path, owner: Path, pieces: list[Piece]
    ) -> None:
        block.closed = True
        pieces.append(Piece(PieceKind.START, block=block, owner=owner))
        name = payload.get(name_key)
        if isinstance(name, str):
            block.name = name
            pieces.append(Piece(PieceKind.DERIVED, block=block, path=(*path, name_key), text=name, owner=owner, value="name"))
        else:
            opaque(name, (*path, name_key), pieces, owner=owner)
        if payload.get(arguments_key) is not None:
            pieces.append(arguments_piece(block, payload[arguments_key], (*path, arguments_key), owner))
        rest = {key: value for key, value in payload.items() if key not in (name_key, arguments_key)}
        opaque(rest, path, pieces, owner=owner)
        pieces.append(Piece(PieceKind.STOP, block=block, owner=owner))


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
                reason = finish_after_removal(piece.text, removed=removed.get(piece.value, 0), kept=kept.get(piece.value, 0))
                if reason != piece.text:
                    changes[piece.path] = reason
            elif block is None:
                continue
            elif piece.kind is PieceKind.START and block.kind == "call":
                (removed if block.removed else kept)[block.choice] = 1
                if block.removed:
                    changes[piece.owner] = DELETE
                    message = piece.owner[: piece.owner.index("message") + 1] if "message" in piece.owner else piece.owner[:3]
                    said.setdefault(message, []).extend([block.replacement] if block.replacement else [])
            elif not block.removed and piece.kind is PieceKind.DERIVED:
                self._derived(piece, block, changes)
            elif not block.removed and piece.out is not None:
                changes[piece.path] = value_out(piece)
        for message, texts in said.items():
            _shrink(read.chunk.data, message, changes)
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


def _at(data: Any, path: Path) -> Any:
    for key in path:
        data = data[key]
    return data


def _shrink(data: Any, message: Path, changes: dict[Path, Any]) -> None:
    """A list of calls all of whose entries go, goes itself."""
    calls = _at(data, message).get("tool_calls")
    path = (*message, "tool_calls")
    if isinstance(calls, list) and calls and all(changes.get((*path, at)) is DELETE for at in range(len(calls))):
        for at in range(len(calls)):
            del changes[(*path, at)]
        changes[path] = DELETE


def _say(data: Any, message: Path, texts: list[str], changes: dict[Path, Any]) -> None:
    """Put the explanations behind the message's content."""
    if not texts:
        return
    path = (*message, "content")
    content = _at(data, message).get("content")
    if isinstance(content, list):
        changes[(*path, len(content))] = {"type": "text", "text": "\n\n".join(texts)}
        return
    content = changes.get(path, content)
    changes[path] = "\n\n".join(text for text in (content, *texts) if text)
