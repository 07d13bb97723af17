"""Server-sent events, incremental, as WHATWG reads them; and canonical writing.

A frame keeps its raw bytes. A frame that some parsers read differently (CR-only line ends, several `data:` lines, a
byte order mark, a line end inside JSON that a line reader would split on) is `ambiguous`: it leaves re-framed.
Lines that WHATWG ignores (comments, unknown fields) are kept as text: nothing goes past the policies unseen.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from luthien_guard.errors import BodyTooLarge

__all__ = ["Frame", "SSEDecoder", "canonical", "comment"]

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
# What ends a frame: two line ends in a row. CR LF counts as one.
_BLANK: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


class Frame(NamedTuple):
    """One SSE frame. `data` is None where the frame has no data line; `ignored` are the comments and the lines that
    WHATWG ignores, as text without their line ends."""

    raw: bytes
    data: bytes | None
    event: str | None = None
    ignored: tuple[bytes, ...] = ()
    ambiguous: bool = False


class SSEDecoder:
    """Feed bytes cut anywhere, get whole frames. `close()` gives the unfinished tail, which WHATWG readers discard
    and line readers take: it is a frame for the policies, and `ambiguous`."""

    __slots__ = ("_buffer", "_first", "_limit", "_scanned")

    def __init__(self, max_event_bytes: int = 4 * 1024 * 1024) -> None:
        self._buffer = b""
        self._scanned = 0
        self._first = True
        self._limit = max_event_bytes

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def is_one_frame(self, data: bytes) -> bool:
        """True when `data` is exactly one frame of the plainest shape, ASCII JSON on one line: what most reads are."""
        return (
            not self._buffer
            and data.startswith(b"data: {")
            and data.find(b"\n") == len(data) - 2
            and data.endswith(b"}\n\n")
            and data.isascii()
            and b"\r" not in data
        )

    def feed(self, data: bytes) -> list[Frame]:
        """Whole frames so far. Raises BodyTooLarge when one frame grows past the limit."""
        buffer = self._buffer + data if self._buffer else data
        if b"\r" in buffer:
            return self._feed_any(buffer)
        frames: list[Frame] = []
        start = 0
        at = buffer.find(b"\n\n", max(self._scanned - 1, 0))
        while at >= 0:
            frames.append(self._frame(buffer[start : at + 2]))
            start = at + 2
            at = buffer.find(b"\n\n", start)
        self._keep(buffer[start:])
        return frames

    def close(self) -> list[Frame]:
        """The tail after the last blank line, if there is one."""
        tail, self._buffer = self._buffer, b""
        return [self._frame(tail, tail=True)] if tail else []

    def _keep(self, rest: bytes) -> None:
        if len(rest) > self._limit:
            raise BodyTooLarge(f"an event of more than {self._limit} bytes")
        self._buffer = rest
        self._scanned = len(rest)

    def _feed_any(self, buffer: bytes) -> list[Frame]:
        """With CR about: a CR at the very end may be half a CR LF, so nothing is decided on it."""
        frames: list[Frame] = []
        start = 0
        for match in _BLANK.finditer(buffer):
            if match.end() == len(buffer) and buffer.endswith(b"\r"):
                break
            frames.append(self._frame(buffer[start : match.end()]))
            start = match.end()
        self._keep(buffer[start:])
        return frames

    def _frame(self, raw: bytes, tail: bool = False) -> Frame:
        first, self._first = self._first, False
        if not tail and b"\r" not in raw and (frame := _simple(raw)) is not None:
            return frame
        return _parse(raw, bom=first and raw.startswith(b"\xef\xbb\xbf"), tail=tail)


def _simple(raw: bytes) -> Frame | None:
    """The two shapes that nearly all traffic has: `data: ...` and `event: ...` with `data: ...`."""
    end = len(raw) - 2
    if raw.startswith(b"data: "):
        return Frame(raw, raw[6:end]) if raw.find(b"\n") == end else None
    if raw.startswith(b"event: "):
        line = raw.find(b"\n")
        if raw.startswith(b"data: ", line + 1) and raw.find(b"\n", line + 1) == end:
            return Frame(raw, raw[line + 7 : end], _text(raw[7:line]))
    return None


def _parse(raw: bytes, *, bom: bool, tail: bool) -> Frame:
    body = raw[3:] if bom else raw
    data: list[bytes] = []
    event: bytes | None = None
    ignored: list[bytes] = []
    ambiguous = bom or tail or _has_bare_cr(body)
    for line in _LINE_END.split(body):
        if not line:
            continue
        name, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if name == b"data":
            data.append(value)
        elif name == b"event":
            ambiguous = ambiguous or event is not None
            event = value
        else:
            ignored.append(line)
    text = _text(event)
    if event is not None and text is None:
        ignored.append(event)
        ambiguous = True
    joined = b"\n".join(data) if data else None
    return Frame(raw, joined, text, tuple(ignored), ambiguous or len(data) > 1)


def _has_bare_cr(body: bytes) -> bool:
    return body.count(b"\r") != body.count(b"\r\n")


def _text(event: bytes | None) -> str | None:
    if event is None:
        return None
    try:
        return event.decode("utf-8")
    except UnicodeDecodeError:
        return None


def canonical(data: bytes, event: str | None = None) -> bytes:
    """The frame that every reader reads the same way: at most one `event:` line, one `data:` line, a blank line."""
    head = b"event: " + event.encode() + b"\n" if event else b""
    return head + b"data: " + data.replace(b"\r", b"").replace(b"\n", b"") + b"\n\n"


def comment(text: str) -> bytes:
    """A comment frame; readers ignore it."""
    return b": " + text.encode().replace(b"\r", b" ").replace(b"\n", b" ") + b"\n\n"
