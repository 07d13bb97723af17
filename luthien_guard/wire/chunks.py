"""From the bytes of a response to chunks: SSE frames, or the whole body as one chunk."""

from __future__ import annotations

import re
from typing import Any, Final

from luthien_guard.errors import WireError
from luthien_guard.events import Chunk, frame_chunk
from luthien_guard.wire.format import is_identifier
from luthien_guard.wire.json_text import loads
from luthien_guard.wire.sse import BOM, Frame, SSEDecoder, canonical, is_lenient, one_line

__all__ = ["BodyDecoder", "StreamDecoder", "is_keepalive", "parsed"]

#: Comments that providers are known to send: not text.
_KEEPALIVE: Final = re.compile(
    r":\s*+(?:OPENROUTER PROCESSING|keep-?alive|ping(?: - [0-9 :.TZ+-]{1,40})?|stream complete|heartbeat)?\s*+\Z"
)

#: U+2028, U+2029 and U+0085 end a line for some line readers, not for SSE.
_LINE_ENDS: Final = {b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029", b"\xc2\x85": b"\\u0085"}

#: A body past its limit leaves in chunks of this size, as they are only held one by one.
_PART: Final = 1024 * 1024


def is_keepalive(line: str) -> bool:
    """True for a comment line that says nothing but "still here"."""
    return _KEEPALIVE.match(line) is not None


class StreamDecoder:
    """Bytes of an SSE response, cut anywhere, to chunks. Never raises: what cannot be read is an `unknown` chunk."""

    __slots__ = ("_sse",)

    def __init__(self, *, max_event_bytes: int) -> None:
        self._sse = SSEDecoder(max_event_bytes)

    def feed(self, data: bytes) -> list[Chunk]:
        if self._sse.takes(data):
            return [_chunk(Frame(data, data[6:-2]))]
        return [_chunk(frame) for frame in self._sse.feed(data)]

    def close(self) -> list[Chunk]:
        return [_chunk(frame) for frame in self._sse.close()]

    @property
    def idle(self) -> bool:
        """No frame has begun that is not whole yet."""
        return not self._sse.pending


def parsed(raw: bytes) -> Chunk:
    """The chunk of one whole frame."""
    return StreamDecoder(max_event_bytes=len(raw)).feed(raw)[0]


class BodyDecoder:
    """A response that is not streamed: one chunk, when the last byte is here. A body past the limit is `unknown` chunks:
    what is here when it passes the limit, and then each piece as it comes."""

    __slots__ = ("_limit", "_parts", "_size")

    def __init__(self, *, max_bytes: int) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._limit = max_bytes

    def feed(self, data: bytes) -> list[Chunk]:
        self._size += len(data)
        self._parts.append(data)
        return self._overflow() if self._size > self._limit else []

    idle = False  # there is only one chunk

    def close(self) -> list[Chunk]:
        if self._size > self._limit:
            return []
        raw = b"".join(self._parts)
        if not raw.strip():
            return [Chunk("body", raw)]
        try:
            return [Chunk("body", raw, loads(raw))]
        except WireError as error:
            return [Chunk("unknown", raw, reason=str(error))]

    def _overflow(self) -> list[Chunk]:
        raw = b"".join(self._parts)
        self._parts.clear()
        reason = f"a body of more than {self._limit} bytes"
        return [Chunk("unknown", raw[at : at + _PART], reason=reason) for at in range(0, len(raw), _PART)]


def _chunk(frame: Frame) -> Chunk:
    data = frame.data
    if data is not None and frame.event is None and not frame.ignored and data[:1] == b"{" and data.isascii():
        return _plain(frame, data)
    return _any(frame)


def _plain(frame: Frame, data: bytes) -> Chunk:
    """The common case: one data line of ASCII JSON."""
    try:
        value = loads(data)
    except WireError as error:
        return Chunk("unknown", frame.raw, reason=str(error))
    return frame_chunk(canonical(data) if frame.ambiguous else frame.raw, value)


def _any(frame: Frame) -> Chunk:
    if frame.problem is not None:
        return Chunk("unknown", frame.raw, reason=frame.problem)
    ignored = _ignored(frame)
    if ignored is None:
        return Chunk("unknown", frame.raw, event=frame.event, reason="bytes that are not UTF-8")
    if frame.data is None:
        return Chunk("comment", _commented(frame), event=frame.event, ignored=ignored)
    if frame.data.startswith(b"[DONE]"):
        return _done(frame, ignored)
    try:
        data = loads(frame.data)
    except WireError as error:
        return Chunk("unknown", frame.raw, event=frame.event, ignored=ignored, reason=str(error))
    return _data(frame, data, ignored)


def _done(frame: Frame, ignored: tuple[str, ...]) -> Chunk:
    if frame.data != b"[DONE]":  # some readers stop here, others read on
        return Chunk("unknown", frame.raw, ignored=ignored, reason="text behind [DONE]")
    raw = canonical(b"[DONE]") if frame.ambiguous else frame.raw
    return Chunk("done", raw, event=frame.event, ignored=ignored)


def _data(frame: Frame, data: Any, ignored: tuple[str, ...]) -> Chunk:
    event = None if frame.event is None else _name(frame.event, data)
    text = frame.data or b""
    escaped = text if text.isascii() else _escaped(text)
    same = event == frame.event and escaped == text and not frame.ambiguous
    return Chunk("data", frame.raw if same else canonical(escaped, event), data, event, ignored)


def _name(event: str, data: Any) -> str | None:
    """The name of a frame: its JSON's type, and none where that is no name. Some clients go by the one, some by the other,
    and some strip names."""
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(kind, str):
        return one_line(event).strip()
    return kind if one_line(kind).strip() == kind else None


def _escaped(text: bytes) -> bytes:
    """Inside JSON these can only stand in strings, where an escape means the same."""
    for raw, escape in _LINE_ENDS.items():
        text = text.replace(raw, escape)
    return text


def _commented(frame: Frame) -> bytes:
    """Comments in ambiguous framing leave line by line, with LF."""
    if not frame.ambiguous:
        return frame.raw
    return b"".join(map(_comment_line, frame.ignored)) + b"\n"


def _comment_line(line: bytes) -> bytes:
    """What some readers would read leaves as a comment. So does a mark at its beginning: where this line is the first
    that leaves, a client would take it for the stream's own and read the rest."""
    hides = is_lenient(line) or line.startswith(BOM)
    return (b": " if hides else b"") + one_line(line.decode()).encode() + b"\n"


def _ignored(frame: Frame) -> tuple[str, ...] | None:
    """The text of a frame that is no data. An event's name is only a name while it looks like one."""
    named = frame.event is not None and not is_identifier(frame.event)
    if not frame.ignored and not named:
        return ()
    try:
        lines = tuple(line.decode("utf-8") for line in frame.ignored)
    except UnicodeDecodeError:
        return None
    return (*lines, f"event: {frame.event}") if named else lines
