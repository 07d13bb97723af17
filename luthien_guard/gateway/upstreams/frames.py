"""Whole SSE frames out of a stream that may break off at any byte: half a frame reads as broken JSON to an SDK, and no
error that follows it is heard."""

from __future__ import annotations

from luthien_guard.wire.sse import SSEDecoder

__all__ = ["Frames", "is_all_there"]


class Frames:
    """Keeps back what is no whole frame yet, up to `limit` bytes; more than that goes on as it comes."""

    __slots__ = ("_held", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._held: list[bytes] = []
        self._size = 0
        self._limit = limit

    def feed(self, data: bytes) -> bytes:
        """The whole frames so far; b"" while there is none."""
        if not self._held and data.endswith(b"\n\n"):
            return data
        # What ends a frame may itself be cut: the last bytes of what is held are looked at again.
        before = self._held[-1][-3:] if self._held else b""
        if len(before) < 3 and len(self._held) > 1:
            before = b"".join(self._held)[-3:]
        end = _end(before + data) - len(before)
        if end <= 0:
            return self._hold(data)
        whole = b"".join((*self._held, data[:end]))
        self._held, self._size = ([data[end:]], len(data) - end) if end < len(data) else ([], 0)
        return whole

    def rest(self) -> bytes:
        """What is left at the end of a stream that did not break off."""
        rest, self._held, self._size = b"".join(self._held), [], 0
        return rest

    def _hold(self, data: bytes) -> bytes:
        self._held.append(data)
        self._size += len(data)
        return self.rest() if self._size > self._limit else b""


def is_all_there(rest: bytes) -> bool:
    """True for an event that lacks its blank line alone: its data is [DONE], or JSON; and for JSON that is no event."""
    decoder = SSEDecoder(1 << 62)
    last = (decoder.feed(rest) + decoder.close())[-1]
    data = rest if last.data is None else last.data
    return data.strip() == b"[DONE]" or _is_json(data)


def _is_json(data: bytes) -> bool:
    import jiter

    try:
        jiter.from_json(data)
    except ValueError:
        return False
    return True


def _end(data: bytes) -> int:
    """Where the last frame that is whole ends; 0 without one. Lines end in LF, CR LF or CR."""
    ends = ((mark, data.rfind(mark)) for mark in (b"\n\n", b"\n\r\n", b"\r\r"))
    return max((at + len(mark) for mark, at in ends if at >= 0), default=0)
