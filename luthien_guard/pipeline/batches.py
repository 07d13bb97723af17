"""What waits for the stream lane: pieces of a body in batches, in one bounded memory stream.

A piece that comes while a batch still waits is put to it, without a step of its own; so a task that takes them all
together costs a burst less than deciding each where it was sent.
"""

from __future__ import annotations

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

__all__ = ["CAPACITY", "ROOM", "Batches"]

#: Pieces of a batch. Two batches may be decided while two more wait; then the application has to.
CAPACITY = 64
#: Bytes of a batch, unless one piece has more.
ROOM = 128 * 1024


class _Batch(list[bytes | None]):
    """None stands for the end. Nothing is put to one that was `taken`."""

    __slots__ = ("taken",)

    def __init__(self, *pieces: bytes | None) -> None:
        super().__init__(pieces)
        self.taken = False


class Batches:
    """One side puts, the other takes everything."""

    __slots__ = ("_last", "_room", "_sending", "_stream")

    def __init__(self) -> None:
        self._last: _Batch | None = None  # as long as more may be put to it
        self._room = 0  # bytes that it still takes
        self._sending = 0
        self._stream: tuple[MemoryObjectSendStream[_Batch], MemoryObjectReceiveStream[_Batch]] | None = None

    @property
    def busy(self) -> bool:
        """Somebody is about to put a batch, or waits until there is room for it."""
        return self._sending > 0

    def takes(self, data: bytes, *, last: bool = False) -> bool:
        """Put a piece to the batch that waits; False where there is none, or no room in it."""
        batch = self._last
        if batch is None or batch.taken or len(batch) >= CAPACITY or len(data) > self._room:
            return False
        batch.append(data)
        self._room -= len(data)
        if last:
            batch.append(None)
            self._last = None
        return True

    async def put(self, data: bytes, *, last: bool) -> bool:
        """Put a piece, as soon as there is room for it; `last`: the final one. False when it was closed meanwhile."""
        if self.takes(data, last=last):
            return True
        batch = _Batch(data, None) if last else _Batch(data)
        self._last, self._room = None if last else batch, ROOM - len(data)
        inlet = self._ends()[0]
        self._sending += 1
        try:
            try:
                inlet.send_nowait(batch)
            except anyio.WouldBlock:
                await inlet.send(batch)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        finally:
            self._sending -= 1
        return True

    def taken(self) -> tuple[bytes, bool]:
        """Everything that waits now as one piece, and whether that is the end: together it costs one decision and one
        write."""
        pieces: list[bytes | None] = []
        if self._stream is not None:
            try:
                while pieces[-1:] != [None]:
                    batch = self._stream[1].receive_nowait()
                    batch.taken = True
                    pieces += batch
            except (anyio.WouldBlock, anyio.EndOfStream):
                pass
        last = pieces[-1:] == [None]
        return b"".join([piece for piece in pieces if piece is not None]), last

    def close(self) -> None:
        """Let everything go; what is put next begins anew: an open stream that nobody speaks on should cost little."""
        stream, self._stream, self._last = self._stream, None, None
        for end in stream or ():
            end.close()

    def _ends(self) -> tuple[MemoryObjectSendStream[_Batch], MemoryObjectReceiveStream[_Batch]]:
        if self._stream is None:
            self._stream = anyio.create_memory_object_stream[_Batch](1)
        return self._stream
