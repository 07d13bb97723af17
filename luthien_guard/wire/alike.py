"""Frames that are like one before but for the text in them: nearly all that a stream consists of.

Two JSON texts that are the same byte for byte outside of string values have the same structure, the same keys and the
same numbers. So a frame that is a known frame with another text in one place needs no parser: what law 2 asks of the
rest was asked of the known one, and what it asks of a string is asked here.
"""

from __future__ import annotations

import re
from typing import Any, Final

import jiter

from luthien_guard.events import Chunk
from luthien_guard.wire.format import Path
from luthien_guard.wire.json_text import LINE_ENDS, string_text
from luthien_guard.wire.splice import span_of

__all__ = ["FILLER", "Pattern", "UnparsedChunk", "is_filler", "pattern_of"]

#: The inside of a JSON string; what `\u` says is left to the parser.
_text = re.compile(rb'[^"\\\x00-\x1f]*(?:\\["\\/bfnrt][^"\\\x00-\x1f]*)*').match
#: Random characters against traffic analysis: other ones in every frame, and text of nobody while they look like this.
FILLER: Final = "obfuscation"
_LONGEST: Final = 128
#: Bytes of a frame. How many an event may have is the decoder's to say, and it says it of every longer one.
_LONGEST_FRAME: Final = 1 << 16
_identifier = re.compile(rb"[A-Za-z0-9_.:/@-]{0,%d}" % _LONGEST).fullmatch
_frame = re.compile(rb"(?:event: [^\r\n]*\n)?data: \{[^\r\n]*\}\n\n").fullmatch
_line_end = re.compile(f"[{''.join(map(chr, LINE_ENDS))}]").search


class UnparsedChunk(Chunk):
    """A chunk for a policy to look at. Its JSON is made when somebody asks for it, and belongs to who asked: what is changed
    in there, now or later, is nobody else's."""

    __slots__ = ("_came", "_data")
    _came: Any
    _data: Any

    @classmethod
    def of(cls, chunk: Chunk) -> UnparsedChunk:
        """Of one that has been parsed; any other is a frame that a `Pattern` knows."""
        made = cls(chunk.kind, chunk.raw, None, chunk.event, chunk.ignored, chunk.reason)
        object.__setattr__(made, "_came", chunk.data)
        return made

    @property
    def data(self) -> Any:
        if self._data is None:
            came = getattr(self, "_came", None)
            object.__setattr__(self, "_data", _parsed_frame(self.raw) if came is None else _copied(came))
        return self._data

    @data.setter
    def data(self, value: Any) -> None:  # what the constructor of a frozen dataclass comes to
        object.__setattr__(self, "_data", value)

    @property
    def came(self) -> Any:
        """Its JSON as it came."""
        came = getattr(self, "_came", None)
        return _parsed_frame(self.raw) if came is None else came

    @property
    def unread(self) -> bool:
        """Nobody has asked for its JSON."""
        return self._data is None

    @property
    def changed(self) -> bool:
        """Its JSON is another one than that which came."""
        return self._data is not None and self._data != self.came


def _parsed_frame(frame: bytes) -> Any:
    """It is strict JSON: the frame is like one that was."""
    begin = frame.index(b"\n") + 1 if frame.startswith(b"event:") else 0
    return jiter.from_json(frame[begin + len(b"data: ") : -2])


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if type(value) is list else value


class Pattern:
    """One frame with a hole where its text stands: `head` text `middle` (filler `tail`)."""

    __slots__ = ("_at", "_head", "_middle", "_tail", "event", "size")

    def __init__(self, head: bytes, middle: bytes, tail: bytes | None, event: str | None) -> None:
        self.event = event  # the name of the frame
        self._head = head
        self._at = len(head)
        self._middle = middle
        self._tail = tail
        self.size = len(head) + len(middle) + len(tail or b"")  # bytes of a frame without a text

    def text_of(self, frame: bytes) -> str | None:
        """The text of a frame that is like this one; None for any other, and where the parser has to look."""
        at, middle, tail = self._at, self._middle, self._tail
        end = frame.find(b'"', at)
        if end < 0 or len(frame) > _LONGEST_FRAME or not frame.startswith(self._head):
            return None
        text: str | None
        try:
            text = frame[at:end].decode()
        except UnicodeDecodeError:
            return None
        if "\\" in text or not text.isprintable():  # the line ends of other readers are not printable either
            end = self._end(frame)
            text = _parsed(frame[at:end])
        after = end + len(middle)
        if tail is None:
            return text if after == len(frame) and frame.endswith(middle) else None
        if not (frame.endswith(tail) and frame.startswith(middle, end)):
            return None
        stop = len(frame) - len(tail)
        return text if after <= stop and _is_identifier(frame[after:stop]) else None

    def with_text(self, frame: bytes, text: str) -> bytes:
        """A frame that is like this one, with another text in it."""
        begin, end = self._at - 1, self._end(frame) + 1
        return b"%b%b%b" % (frame[:begin], string_text(text).encode(), frame[end:])

    def frame(self, text: str) -> bytes:
        """A frame that is like this one, with this text and nothing random."""
        return b"%b%b%b%b" % (
            self._head[:-1],
            string_text(text).encode(),
            self._middle[1:],
            self._tail or b"",
        )

    def _end(self, frame: bytes) -> int:
        at = self._at
        end = frame.find(b'"', at)
        if frame.find(b"\\", at, end) < 0:
            return end
        return _text(frame, at).end()  # type: ignore[union-attr] # it matches nothing, too


def _is_identifier(text: bytes) -> bool:
    if text.isalnum():  # nearly always, and five times as fast
        return len(text) <= _LONGEST
    return _identifier(text) is not None


def is_filler(value: Any) -> bool:
    """Whether this stands for nothing."""
    if type(value) is not str or not value.isascii():
        return False
    return len(value) <= _LONGEST if value.isalnum() else _is_identifier(value.encode())


def _parsed(inside: bytes) -> str | None:
    try:
        text: str = jiter.from_json(b'"%b"' % inside)
    except ValueError:
        return None
    return None if _line_end(text) else text


def pattern_of(chunk: Chunk, path: Path) -> Pattern | None:
    """The pattern of a frame that was read, with its text at `path` of the JSON; None where it has an unusual shape."""
    frame = chunk.raw
    if chunk.kind != "data" or not isinstance(path[-1], str) or not _frame(frame):
        return None
    place = span_of(frame, path[-1].encode())
    if place is None:
        return None
    head, end = frame[: place[0] + 1], place[1] - 1
    filler = span_of(frame, FILLER.encode()) if type(chunk.data.get(FILLER)) is str else None
    if filler is None or filler[0] < end:
        return Pattern(head, frame[end:], None, chunk.event)
    return Pattern(head, frame[end : filler[0] + 1], frame[filler[1] - 1 :], chunk.event)
