"""The strings of channel `other`: whatever a wire format does not model, looked at as clients may put it together.

It cannot be held for a window that may never fill. So policies that look at more than a piece get a look back instead:
what stood at the same place before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.engine.plan import TextStagePlan
from luthien_guard.engine.runs import Run, Slot
from luthien_guard.engine.stages import stage_of
from luthien_guard.engine.state import ResponseState
from luthien_guard.events import Chunk, ContentCompleted
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.indices import index_of

__all__ = ["Others", "place_of"]

_BLOCK: Final = Block("text", channel="other", writable=False)
_NO_CHUNK: Final = ReadChunk(Chunk("comment", b""), ())
#: Characters that a policy for whole texts sees of what stood there before.
_LOOK_BACK: Final = 4096
#: Bytes that are kept for a place besides what stood there: an upstream may name a new one in every event.
_PLACE: Final = 256
#: Members that say what an event is about.
_ABOUT: Final = ("index", "output_index", "content_index", "summary_index")
#: No client asks what a chunk is about that has choices: it joins what stands in these.
_CHOICES: Final = ("choices",)
_AS_THEY_CAME: Final[Mapping[Path, Any]] = {}


def place_of(data: Any, path: Path, leaves: Mapping[Path, Any] = _AS_THEY_CAME) -> tuple[Any, ...]:
    """Where clients join it: an element that has an index goes by that, wherever in its list it stands, and so does an
    event. `leaves`: what leaves otherwise than it came."""
    place: list[Any] = []
    if isinstance(data, dict) and path[:1] != _CHOICES:
        kind = leaves.get(("type",), data.get("type"))
        place = [kind if isinstance(kind, str) else ""]
        place += [index_of(leaves.get((name,), data.get(name))) for name in _ABOUT]
    for at, key in enumerate(path, 1):
        data = _part(data, key)
        index = None
        if type(key) is int and isinstance(data, dict):
            came = data.get("index")
            index = index_of(leaves.get((*path[:at], "index"), came) if leaves else came)
        place.append(key if index is None else ("index", index))
    return tuple(place)


def _leaving(pieces: Sequence[Piece]) -> Mapping[Path, Any]:
    """What leaves otherwise than it came, whatever policies say."""
    return {
        piece.path: piece.value[1]
        for piece in pieces
        if piece.kind is PieceKind.DERIVED and piece.block is None
    }


def _stays(text: str, path: Path, leaves: Mapping[Path, Any]) -> bool:
    """False for a string that is not in what leaves: clients join what stood before it to what comes after it."""
    return not leaves or all(
        path[:at] not in leaves or _has(leaves[path[:at]], path[at:], text) for at in range(1, len(path) + 1)
    )


def _has(value: Any, path: Path, text: str) -> bool:
    for key in path:
        if not _is_in(value, key):
            return False
        value = value[key]
    return bool(value == text or (path and path[-1] == text))


def _is_in(value: Any, key: str | int) -> bool:
    if isinstance(value, list):
        return type(key) is int and key < len(value)
    return isinstance(value, dict) and key in value


def _calls_in(pieces: Sequence[Piece]) -> Mapping[Path, Block]:
    """The call that each element of the chunk is of."""
    return {piece.owner: piece.block for piece in pieces if piece.owner and piece.block is not None}


def _part(data: Any, key: str | int) -> Any:
    """None where the path goes on in what is no JSON of the chunk, or names a key."""
    try:
        return data[key]
    except (KeyError, IndexError, TypeError):
        return None


class Others:
    """Those of one response."""

    __slots__ = ("_calls", "_kept", "_leaves", "_plans", "_read", "_response", "_said", "_tails")

    def __init__(self, response: ResponseState) -> None:
        self._response = response
        self._plans = response.plan.text_by_channel["other"]
        self._read = _NO_CHUNK  # the chunk that was looked at last
        self._leaves = _AS_THEY_CAME  # what of it leaves otherwise
        self._calls: Mapping[Path, Block] = {}  # of its elements
        self._kept = 0  # bytes, about
        self._tails: dict[Any, str] = {}
        #: What stood at each place, for policies that judge the whole response.
        self._said: dict[Any, list[str]] | None = {} if response.plan.calls["on_response_completed"] else None

    async def take(self, piece: Piece, read: ReadChunk) -> None:
        """Show one string of a chunk to the text policies; raises Stop on a verdict."""
        text = piece.text
        if not text or not (self._plans or self._said is not None):
            return
        place = self._place(piece, read)
        if self._said is not None:
            self._note(self._said, text, place)
        for plan in self._plans:
            await self._show(plan, text, place)

    async def take_comment(self, line: str) -> None:
        """The same for a line that WHATWG ignores, whatever else is in its frame."""
        await self.take(Piece(PieceKind.OPAQUE, path=("comment",), text=line), _NO_CHUNK)

    def _place(self, piece: Piece, read: ReadChunk) -> tuple[Any, ...]:
        if read is not self._read:
            self._read, self._leaves, self._calls = read, _leaving(read.pieces), _calls_in(read.pieces)
        place = place_of(read.chunk.data, piece.path, self._leaves)
        call = self._calls.get(piece.owner)
        # it leaves at a place of its own, wherever upstream said that it stands
        if call is not None and call.policed:
            place = (call, *place[len(piece.owner) - len(piece.path) :])
        return place if _stays(piece.text, piece.path, self._leaves) else ("does not leave", *place)

    def _note(self, said: dict[Any, list[str]], text: str, place: Any) -> None:
        self._keep(len(text) if place in said else len(text) + _size(place))
        said.setdefault(place, []).append(text)

    async def _show(self, plan: TextStagePlan, text: str, place: Any) -> None:
        length = _LOOK_BACK if plan.whole else plan.lookahead
        if length and self._response.stream:  # nobody joins the parts of one body
            text = self._look_back((plan.call.position, plan.whole), text, place, length)
        stage = stage_of(self._response.exchange, plan, _BLOCK)
        piece = Piece(PieceKind.DELTA, block=_BLOCK, text=text)
        await stage.push([Run(Slot(_NO_CHUNK, piece), len(text), text)])
        await stage.finish()

    def _look_back(self, stage: tuple[int, bool], text: str, place: Any, length: int) -> str:
        """The text behind what stood there before."""
        key = (*stage, place)
        before = self._tails.get(key)
        if before is None:
            self._keep(_size(place))
            before = ""
        text = before + text
        tail = self._tails[key] = text[-length:]
        if len(tail) > len(before):
            self._keep(len(tail) - len(before))
        return text

    def _keep(self, more: int) -> None:
        """A body has been kept whole before: no limit is left for it."""
        self._kept += more
        limit = self._response.exchange.services.limits.max_response_bytes
        if self._kept > limit and self._response.stream and not self._response.done:
            self._response.abort("more of what the wire format does not know is kept than the limit allows")

    def completed(self) -> Sequence[ContentCompleted]:
        """All of it, joined by place."""
        said = (self._said or {}).values()
        return [ContentCompleted("".join(parts), "other", writable=False) for parts in said]


def _size(place: tuple[Any, ...]) -> int:
    """Types and keys are upstream's, of any length."""
    return _PLACE + sum(len(part) for part in place if type(part) is str)
