"""What stands over the chunks of a stream: their `object` and the name of their frame.

The official SDK skips a chunk whose `object` is another one than it should be, and frames of some names; clients on an
EventSource skip frames of any name but theirs. Others read them all. So that all read the same, a chunk that says
something leaves under the heading of the first that did: a provider that names its chunks in its own way goes on to.
What we say ourselves leaves there, too, or who reads the answer would not read why it ends. And what clients check of
a chunk (`shapes`) is as it should be in all chunks that say something, or in none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
#: What stands in a delta; all else that does not fit stands beside the choices.
_INNER: Final = frozenset({"role", "annotations"})


class Heading:
    """Of one stream, once a chunk has said something. An `object` that is not there is None."""

    __slots__ = ("event", "object", "odd")

    def __init__(self) -> None:
        self.event: str | None = None
        self.object: Any = _UNKNOWN
        self.odd: dict[str | int, Any] = {}  # members that do not fit, of the first chunk

    @property
    def known(self) -> bool:
        return self.object is not _UNKNOWN

    def begin(self, chunk: Chunk, pieces: Sequence[Piece]) -> None:
        """A chunk before there is a heading."""
        if any(map(_says_something, pieces)):
            self._learn(chunk)

    def _learn(self, chunk: Chunk) -> None:
        self.event, self.object = chunk.event, chunk.data.get("object")

    def read(self, chunk: Chunk, pieces: list[Piece], odd: Mapping[Path, Any]) -> None:
        """A chunk under another heading, or before there is one. `odd`: where it does not fit, and what stands there."""
        place = next((piece.path[:3] for piece in pieces if _says_something(piece)), None)
        if place is None:
            return
        if not self.known:
            self._learn(chunk)
            self.odd = {path[-1]: value for path, value in odd.items()}
            return
        self._fit(place, odd, pieces)
        stands = chunk.data.get("object")
        if stands != self.object:
            pieces.append(leaves_as(("object",), DELETE if self.object is None else self.object))
        if (chunk.event or "message") != (self.event or "message"):  # which is what no name means
            pieces.append(leaves_as(FRAME, self.event))

    def _fit(self, place: Path, odd: Mapping[Path, Any], pieces: list[Piece]) -> None:
        pieces.extend(leaves_as(path, DELETE) for path in odd if path[-1] not in self.odd)
        missing = self.odd.keys() - {path[-1] for path in odd}
        pieces.extend(leaves_as((*place, key) if key in _INNER else (key,), self.odd[key]) for key in missing)


def under(event: str | None, raw: bytes) -> bytes:
    """The frame under that name."""
    data = next(line for line in raw.splitlines() if line.startswith(b"data:"))
    return canonical(data[5:].removeprefix(b" "), event)


def _says_something(piece: Piece) -> bool:
    return len(piece.path) > 2 and piece.path[2] == "delta"
