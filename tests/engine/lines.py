"""A wire format of ten lines, so that the engine is tested by itself.

Chunks are JSON: {"text": "abc"} is text of the block "b" (default "0"), {"end": "b"} ends it, {"call": "args", "id":
"c"} is a fragment of a call, {"called": "c"} ends it, {"other": "..."} is a string that the format does not model,
{"finish": "stop"}, {"error": "..."}, {"usage": {...}}; several keys may stand in one chunk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from luthien_guard.errors import IllegalOutput
from luthien_guard.events import Chunk
from luthien_guard.exchange import ChatRequest
from luthien_guard.wire.format import Block, Piece, PieceKind, ReadChunk
from luthien_guard.wire.json_text import loads


class LinesReader:
    model = "lines-1"
    id = "1"

    def __init__(self) -> None:
        self.open: dict[str, Block] = {}

    def read(self, chunk: Chunk) -> list[Piece]:
        pieces: list[Piece] = []
        for key, value in (chunk.data or {}).items():
            if key in ("text", "signed", "reasoning", "call"):
                pieces += self._delta(key, value, str(chunk.data.get("id", "0")))
            elif key in ("end", "called"):
                pieces += self._stop(value)
            elif key == "other":
                pieces.append(Piece(PieceKind.OPAQUE, path=("other",), text=value))
            elif key == "echo":
                pieces.append(Piece(PieceKind.ECHO, block=self.last, path=("echo",), text=value))
            elif key == "finish":
                pieces += [piece for name in list(self.open) for piece in self._stop(name)]
                pieces.append(Piece(PieceKind.FINISH, text=value))
            elif key == "usage":
                pieces.append(Piece(PieceKind.USAGE, value=value))
            elif key == "error":
                pieces.append(Piece(PieceKind.FAILED, text=value))
        return pieces

    def _delta(self, key: str, text: str, id: str) -> list[Piece]:
        kind = "call" if key == "call" else "text"
        block = self.open.get(id)
        made: list[Piece] = []
        if block is None:
            channel = {"signed": "reasoning", "reasoning": "reasoning"}.get(key, "content")
            block = self.open[id] = Block(
                kind,  # type: ignore[arg-type]
                id=id,
                name="tool",
                channel=channel,  # type: ignore[arg-type]
                writable=key != "signed",
            )
            made.append(Piece(PieceKind.START, block=block))
        block.source.append(text)
        return [*made, Piece(PieceKind.DELTA, block=block, path=(key,), text=text)]

    def _stop(self, id: str) -> list[Piece]:
        block = self.open.pop(id)
        block.closed = True
        self.last = block
        return [Piece(PieceKind.STOP, block=block)]

    def close(self) -> list[Piece]:
        return [Piece(PieceKind.STOP, block=block) for block in self.open.values()]


class LinesWriter:
    finished = False

    def write(self, chunks: Sequence[ReadChunk]) -> list[tuple[bytes, int | None]]:
        out: list[tuple[bytes, int | None]] = []
        for read in chunks:
            if read.source is None and isinstance(read.chunk.data, dict) and "illegal" in read.chunk.data:
                raise IllegalOutput("illegal", policy="", hook="")
            removed = [p.block for p in read.pieces if p.block is not None and p.block.removed]
            if removed:
                for piece in read.pieces:
                    if piece.kind is PieceKind.START and piece.block is not None and piece.block.replacement:
                        out += [(_line({"text": piece.block.replacement}), None)]
            elif any(piece.out is not None for piece in read.pieces):
                changed = {piece.path[0]: piece.out for piece in read.pieces if piece.out is not None}
                out.append((_line({**read.chunk.data, **changed}), None))
            elif read.chunk.raw:
                out.append((read.chunk.raw, read.source))
        return out

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        return _line({"text": message, "finish": "stop"})

    def fail(self, status: int, code: str, message: str) -> bytes:
        return _line({"error": code})


class Lines:
    name = "openai.chat"
    suffix = "/lines"
    keepalive = b":\n\n"
    no_arguments = ""
    refusal: tuple[int, str] = (400, "refused")
    refuses_in_stream = False

    def __init__(self, *, calls_last: bool = False) -> None:
        self.calls_last = calls_last

    def read_request(self, body: bytes) -> ChatRequest:
        return ChatRequest(self.name, loads(body))

    def write_request(self, body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
        return body if request == original else json.dumps(dict(request.raw)).encode()

    def reader(self, *, stream: bool, choices: int | None = None) -> LinesReader:
        return LinesReader()

    def writer(
        self, *, stream: bool, model: str, call_id: str, choices: int | None = None, usage: bool = False
    ) -> LinesWriter:
        return LinesWriter()

    def error(self, status: int, code: str, message: str) -> bytes:
        return json.dumps({"error": code}).encode()


def _line(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def wire(*chunks: Any) -> bytes:
    return b"".join(_line(chunk) for chunk in chunks)


def seen(data: bytes) -> list[Any]:
    """What a client reads."""
    return [json.loads(each[6:]) for each in data.decode().split("\n\n") if each.startswith("data: ")]
