"""The strings of channel `other`: whatever a wire format does not model, looked at as clients may put it together.

It cannot be held for a window that may never fill. So policies that look at more than a piece get a look back instead:
what stood at the same place before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.plan import Plan, TextStagePlan
from luthien_guard.engine.runs import Run, Slot
from luthien_guard.engine.stages import Job, stage_of
from luthien_guard.events import Chunk, ContentCompleted
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.indices import index_of

__all__ = ["Others", "place_of"]

_BLOCK: Final = Block("text", channel="other", writable=False)
_NO_CHUNK: Final = ReadChunk(Chunk("comment", b""), ())
#: Characters that a policy for whole texts sees of what stood there before.
_LOOK_BACK: Final = 4096
#: Members that say what an event is about.
_ABOUT: Final = ("index", "output_index", "content_index", "summary_index")


def place_of(data: Any, path: Path) -> tuple[Any, ...]:
    """Where clients join it: an element that has an index goes by that, wherever in its list it stands, and so does an
    event."""
    place: list[Any] = []
    if isinstance(data, dict):
        kind = data.get("type")
        place = [kind if isinstance(kind, str) else "", *(index_of(data.get(name)) for name in _ABOUT)]
    for key in path:
        data = _part(data, key)
        index = index_of(data.get("index")) if type(key) is int and isinstance(data, dict) else None
        place.append(key if index is None else ("index", index))
    return tuple(place)


def _part(data: Any, key: str | int) -> Any:
    """None where the path goes on in what is no JSON of the chunk, or names a key."""
    try:
        return data[key]
    except (KeyError, IndexError, TypeError):
        return None


class Others:
    """Those of one response."""

    __slots__ = ("_exchange", "_later", "_plans", "_said", "_tails")

    def __init__(self, exchange: Exchange, plan: Plan, later: Callable[[Job], None]) -> None:
        """`later` does something beside the answer, which does not wait for it."""
        self._exchange = exchange
        self._plans = plan.text_by_channel["other"]
        self._later = later
        self._tails: dict[Any, str] = {}
        #: What stood at each place, for policies that judge the whole response.
        self._said: dict[Any, list[str]] | None = {} if plan.calls["on_response_completed"] else None

    async def take(self, text: str, data: Any, path: Path) -> None:
        """Show one string to the text policies; raises Stop on a verdict. `data` is the chunk's JSON."""
        if not text or not (self._plans or self._said is not None):
            return
        place = place_of(data, path)
        if self._said is not None:
            self._said.setdefault(place, []).append(text)
        for plan in self._plans:
            await self._show(plan, text, place)

    async def _show(self, plan: TextStagePlan, text: str, place: Any) -> None:
        length = _LOOK_BACK if plan.whole else plan.lookahead
        if length:
            key = (plan.call.position, plan.whole, place)
            text = self._tails.get(key, "") + text
            self._tails[key] = text[-length:]
        stage = stage_of(self._exchange, plan, _BLOCK, self._later)
        piece = Piece(PieceKind.DELTA, block=_BLOCK, text=text)
        await stage.push([Run(Slot(_NO_CHUNK, piece), len(text), text)])
        await stage.finish()

    def completed(self) -> Sequence[ContentCompleted]:
        """All of it, joined by place."""
        said = (self._said or {}).values()
        return [ContentCompleted("".join(parts), "other", writable=False) for parts in said]
