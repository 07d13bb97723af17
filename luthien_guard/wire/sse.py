"""Server-sent events, incremental, as WHATWG reads them; and canonical writing.

A frame keeps its raw bytes. A frame that some parsers read differently (CR-only line ends, several `data:` lines, a
byte order mark, a line end of other line readers in a name or comment, a line that only lenient readers read) is
`ambiguous`: it leaves re-framed.
Lines that WHATWG ignores (comments, unknown fields) are kept as text: nothing goes past the policies unseen.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["BOM", "Frame", "SSEDecoder", "canonical", "comment", "is_lenient", "one_line"]

BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
# What ends a frame: two line ends in a row. CR LF counts as one.
_BLANK: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_DONE: Final = b"data: [DONE]\n\n"
_LONGEST_BLANK: Final = len(b"\r\n\r\n")
# Where readers with str.splitlines end a line, too.
_OTHER_LINE_END: Final = re.compile(rb"[\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9]")
# Lines that WHATWG ignores and some readers take: those who strip a line or a field's name, do not mind its case, or read
# JSON without any name.
_LENIENT: Final = re.compile(r"[^\w:]*(?:[\[{]|(?:data|event)[^\w:]*(?::|$))", re.IGNORECASE)
_ANY_LINE_END: Final = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


class Frame(NamedTuple):
    """One SSE frame. `data` is None where the frame has no data line; `ignored` are the comments and the lines that
    WHATWG ignores, as text without their line ends. Where there is a `problem`, it is a frame that nobody read, or a
    part of one."""

    raw: bytes
    data: bytes | None
    event: str | None = None
    ignored: tuple[bytes, ...] = ()
    ambiguous: bool = False
    problem: str | None = None


class SSEDecoder:
    """Feed bytes cut anywhere, get whole frames. `close()` gives the unfinished tail, which WHATWG readers discard
    and line readers take: it is a frame for the policies, and `ambiguous`.

    A frame of more than `max_event_bytes` is not read, and not kept either: what is here of it when it passes the limit
    comes out as a frame with a `problem`, and then each piece as it comes, to the end of the frame.
    """

    __slots__ = ("_first", "_large", "_limit", "_rest", "_scanned", "_with_cr")

    def __init__(self, max_event_bytes: int = 4 * 1024 * 1024) -> None:
        self._rest = bytearray()  # of a frame that is not whole yet
        self._scanned = 0  # how far an end was looked for in it
        self._with_cr = False  # there is a CR in it
        self._large = False  # some of it has come out, as it is too large
        self._first = True
        self._limit = max_event_bytes

    @property
    def pending(self) -> bool:
        """A frame has begun that is not whole yet."""
        return self._large or bool(self._rest)

    def takes(self, data: bytes) -> bool:
        """Take `data` if it is exactly one frame of the plainest shapes, ASCII JSON on one line or the end: what most reads
        are. False leaves it to `feed`."""
        if self._rest or self._large or len(data) > self._limit:
            return False
        if data != _DONE and (
            not data.startswith(b"data: {")
            or data.find(b"\n") != len(data) - 2
            or not data.endswith(b"}\n\n")
            or not data.isascii()
            or b"\r" in data
        ):
            return False
        self._first = False
        return True

    def feed(self, data: bytes) -> list[Frame]:
        """Whole frames so far."""
        if not self._rest:
            return self._split(data, 0)
        rest = self._rest
        rest += data
        self._with_cr = self._with_cr or b"\r" in data
        # an end may have begun in what was looked at
        at = max(self._scanned - _LONGEST_BLANK, 0)
        if _end(rest, at, self._with_cr) < 0:
            return self._keep()
        self._rest = bytearray()
        return self._split(bytes(rest), at)

    def close(self) -> list[Frame]:
        """The tail after the last blank line, if there is one."""
        tail, self._rest = bytes(self._rest), bytearray()
        return [self._frame(tail, tail=True)] if tail else []

    def _split(self, buffer: bytes, at: int) -> list[Frame]:
        """The frames of the buffer, in which none ends before `at`. The rest is kept."""
        frames: list[Frame] = []
        with_cr = b"\r" in buffer
        start, end = 0, _end(buffer, at, with_cr)
        while end >= 0:
            frames.append(self._frame(buffer[start:end]))
            start = end
            end = _end(buffer, start, with_cr)
        if start < len(buffer):
            self._rest += buffer[start:]
            self._with_cr = with_cr
            frames += self._keep()
        return frames

    def _keep(self) -> list[Frame]:
        """Wait for the end of the frame, unless it is too large: then it comes out, but for line ends that may be half of
        what ends it."""
        self._scanned = len(self._rest)
        if not self._large and self._scanned <= self._limit:
            return []
        raw = bytes(self._rest).rstrip(b"\r\n")
        del self._rest[: len(raw)]
        self._scanned = 0
        self._first = False
        self._large = True
        return [self._part(raw)] if raw else []

    def _part(self, raw: bytes) -> Frame:
        return Frame(raw, None, problem=f"an event of more than {self._limit} bytes")

    def _frame(self, raw: bytes, tail: bool = False) -> Frame:
        first, self._first = self._first, False
        if self._large or len(raw) > self._limit:
            self._large = False
            return self._part(raw)
        if not tail and b"\r" not in raw and (frame := _simple(raw)) is not None:
            return frame
        return _parse(raw, bom=first and raw.startswith(BOM), tail=tail)


def _end(buffer: bytes | bytearray, at: int, with_cr: bool) -> int:
    """Where the frame ends that has no end before `at`; -1 where it does not end yet."""
    if not with_cr:
        found = buffer.find(b"\n\n", at)
        return found if found < 0 else found + 2
    match = _BLANK.search(buffer, at)
    if match is None or (match.end() == len(buffer) and buffer.endswith(b"\r")):
        return -1  # a CR at the very end may be half a CR LF: nothing is decided on it
    return match.end()


def _simple(raw: bytes) -> Frame | None:
    """The two shapes that nearly all traffic has: `data: ...` and `event: ...` with `data: ...`."""
    end = len(raw) - 2
    if raw.startswith(b"data: "):
        return Frame(raw, raw[6:end]) if raw.find(b"\n") == end else None
    if raw.startswith(b"event: "):
        line = raw.find(b"\n")
        if raw.startswith(b"data: ", line + 1) and raw.find(b"\n", line + 1) == end:
            name = _text(raw[7:line])
            if name is not None and name.isprintable():  # the line ends of other readers are not printable
                return Frame(raw, raw[line + 7 : end], name)
    return None


def _parse(raw: bytes, *, bom: bool, tail: bool) -> Frame:
    body = raw[3:] if bom else raw
    data: list[bytes] = []
    event: bytes | None = None
    ignored: list[bytes] = []
    ambiguous = bom or tail or _has_bare_cr(body) or body.startswith(BOM)
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
    ambiguous = ambiguous or len(data) > 1 or any(map(_OTHER_LINE_END.search, [event or b"", *ignored]))
    ambiguous = ambiguous or any(map(is_lenient, ignored))
    return Frame(raw, joined, text, tuple(ignored), ambiguous)


def _has_bare_cr(body: bytes) -> bool:
    return body.count(b"\r") != body.count(b"\r\n")


def _text(event: bytes | None) -> str | None:
    if event is None:
        return None
    try:
        return event.decode("utf-8")
    except UnicodeDecodeError:
        return None


def is_lenient(line: bytes) -> bool:
    """Whether there are readers that take a line which WHATWG ignores for data or a name."""
    return _LENIENT.match(line.decode("utf-8", "replace")) is not None


def one_line(text: str) -> str:
    """The text with a space in the place of whatever ends a line for some reader or other."""
    return text if text.isprintable() else _ANY_LINE_END.sub(" ", text)


def canonical(data: bytes, event: str | None = None) -> bytes:
    """The frame that every reader reads the same way: at most one `event:` line, one `data:` line, a blank line."""
    head = b"event: " + one_line(event).encode() + b"\n" if event else b""
    return head + b"data: " + data.replace(b"\r", b"").replace(b"\n", b"") + b"\n\n"


def comment(text: str) -> bytes:
    """A comment frame; readers ignore it."""
    return b": " + one_line(text).encode() + b"\n\n"
