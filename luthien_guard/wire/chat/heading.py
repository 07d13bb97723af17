"""What stands over the chunks of a stream: their `object` and the name of their frame.

The official SDK skips a chunk whose `object` is another one than it should be, and frames of some names; clients on an
EventSource skip frames of any name but theirs. Others read them all. So that all read the same, a chunk that says
something leaves under the heading of the first that did: a provider that names its chunks in its own way goes on to.
What we say ourselves leaves there, too, or who reads the answer would not read why it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from luthien_guard.events import Chunk
from luthien_guard.wire.format import Path, Piece
from luthien_guard.wire.indices import leaves_as
from luthien_guard.wire.json_text import DELETE
from luthien_guard.wire.sse import canonical

__all__ = ["FRAME", "Heading", "under"]

#: The path of the frame itself, for the name that it leaves under.
FRAME: Final[Path] = ("event:",)
_UNKNOWN: Final = object()


class Heading:
    """Of one stream, once a chunk has said something. An `object` that is not there is None."""

    __slots__ = ("event", "object")

    def __init__(self) -> None:
        self.event: str | None = None
        self.object: Any = _UNKNOWN

    @property
    def known(self) -> bool:
        return self.object is not _UNKNOWN

    def begin(self, chunk: Chunk, pieces: Sequence[Piece]) -> None:
        """A chunk before there is a heading."""
        if any(map(_says_something, pieces)):
            self.event, self.object = chunk.event, chunk.data.get("object")

    def read(self, chunk: Chunk, pieces: list[Piece]) -> None:
        """A chunk under another heading, or before there is one."""
        if not self.known:
            self.begin(chunk, pieces)
            return
        if not any(map(_says_something, pieces)):
            return
        stands = chunk.data.get("object")
        if stands != self.object:
            pieces.append(leaves_as(("object",), DELETE if self.object is None else self.object))
        if (chunk.event or "message") != (self.event or "message"):  # which is what no name means
            pieces.append(leaves_as(FRAME, self.event))


def under(event: str | None, raw: bytes) -> bytes:
    """The frame under that name."""
    data = next(line for line in raw.splitlines() if line.startswith(b"data:"))
    return canonical(data[5:].removeprefix(b" "), event)


def _says_something(piece: Piece) -> bool:
    return len(piece.path) > 2 and piece.path[2] == "delta"
