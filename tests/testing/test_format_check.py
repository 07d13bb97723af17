"""`check_wire_format` passes the formats of the library and finds out a codec that breaks a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from luthien_guard.events import Chunk
from luthien_guard.exchange import ChatRequest
from luthien_guard.testing import WIRE_FORMATS, check_wire_format
from luthien_guard.wire.format import Block, Piece, PieceKind, ReadChunk, Reader, Writer
from luthien_guard.wire.formats import FORMATS


@pytest.mark.parametrize("name", WIRE_FORMATS)
def test_the_formats_of_the_library_pass(name: str) -> None:
    check_wire_format(FORMATS[name])


def test_another_format_must_bring_samples() -> None:
    with pytest.raises(ValueError, match="give streams"):
        check_wire_format(Wrapped(name="another"))


class Wrapped:
    """openai.chat with one thing wrong."""

    def __init__(
        self,
        *,
        name: str = "openai.chat",
        pieces: Callable[[list[Piece]], list[Piece]] = lambda found: found,
        write: Callable[[bytes], bytes] = lambda raw: raw,
        request: Callable[[bytes], bytes] = lambda body: body,
    ) -> None:
        self.inner = FORMATS["openai.chat"]
        self.name = name
        self.suffix, self.keepalive, self.calls_last = self.inner.suffix, self.inner.keepalive, False
        self.no_arguments = ""
        self.refusal, self.refuses_in_stream = self.inner.refusal, False
        self._pieces, self._write, self._request = pieces, write, request

    def read_request(self, body: bytes) -> ChatRequest:
        return self.inner.read_request(self._request(body))

    def write_request(self, body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
        return self.inner.write_request(body, original, request)

    def reader(self, *, stream: bool) -> Reader:
        return WrappedReader(self.inner.reader(stream=stream), self._pieces)

    def writer(self, *, stream: bool, model: str, call_id: str) -> Writer:
        return WrappedWriter(self.inner.writer(stream=stream, model=model, call_id=call_id), self._write)

    def error(self, status: int, code: str, message: str) -> bytes:
        return self.inner.error(status, code, message)


class WrappedReader:
    def __init__(self, inner: Reader, change: Callable[[list[Piece]], list[Piece]]) -> None:
        self.inner, self._change = inner, change
        self.model, self.id = inner.model, inner.id

    def read(self, chunk: Chunk) -> list[Piece]:
        return self._change(self.inner.read(chunk))

    def close(self) -> list[Piece]:
        return self._change(self.inner.close())


class WrappedWriter:
    def __init__(self, inner: Writer, change: Callable[[bytes], bytes]) -> None:
        self.inner, self._change = inner, change

    def write(self, chunks: Sequence[ReadChunk]) -> list[tuple[bytes, int | None]]:
        return [(self._change(raw), at) for raw, at in self.inner.write(chunks)]

    def end(self, message: str, usage: Any) -> bytes:
        return self.inner.end(message, usage)

    def fail(self, status: int, code: str, message: str) -> bytes:
        return self.inner.fail(status, code, message)

    @property
    def finished(self) -> bool:
        return self.inner.finished


def without(kind: PieceKind) -> Callable[[list[Piece]], list[Piece]]:
    return lambda found: [piece for piece in found if piece.kind is not kind]


def and_a_block_that_never_starts(found: list[Piece]) -> list[Piece]:
    return [*found, Piece(PieceKind.DERIVED, block=Block("text"))]


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Wrapped(pieces=without(PieceKind.OPAQUE)), "no piece shows it"),
        (Wrapped(pieces=without(PieceKind.STOP)), "never stops"),
        (Wrapped(pieces=without(PieceKind.START)), "before its block's start"),
        (Wrapped(pieces=and_a_block_that_never_starts), "never stops"),
        (Wrapped(write=lambda raw: raw.replace(b'":', b'": ')), "unchanged bytes were changed"),
        (Wrapped(request=lambda body: body.removeprefix(b"\xef\xbb\xbf")), "read_request accepts"),
    ],
)
def test_broken_rules_are_found_out(broken: Wrapped, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_wire_format(broken)
