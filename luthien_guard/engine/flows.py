"""The frames of a flow, as long as there is one: past parser, reader and writer."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import Final

from luthien_guard.engine.chunks import ChunkHooks
from luthien_guard.engine.flow import Flow, flow_of, written
from luthien_guard.engine.pieces import Pieces
from luthien_guard.engine.state import Item, ResponseState
from luthien_guard.engine.verdicts import Stop
from luthien_guard.events import Chunk
from luthien_guard.wire.alike import Pattern
from luthien_guard.wire.chunks import parsed
from luthien_guard.wire.format import ReadChunk

__all__ = ["Flows"]

_VAIN: Final = 4


class Flows:
    """Begins flows and takes their frames."""

    __slots__ = ("_flowed", "_hooks", "_pieces", "_response", "_vain", "anew", "latest")

    def __init__(self, response: ResponseState, pieces: Pieces, hooks: ChunkHooks) -> None:
        self._response = response
        self._pieces = pieces
        self._hooks = hooks
        #: Chunks that are to be read like any other, with their numbers: what a policy put in the place of a frame.
        self.anew: list[tuple[Chunk, int | None]] = []
        self.latest: tuple[ReadChunk, Item] | None = None  # what left last
        self._flowed = 0  # chunks when the flow began
        self._vain = 0  # flows of one frame, in a row

    def begin(self) -> None:
        """See whether what left last is one of many alike. Ask only where no frame has begun that is not whole yet."""
        response = self._response
        latest, self.latest = self.latest, None
        if latest is None or self._vain >= _VAIN or response.done or response.ended or response.jobs:
            return
        if self._hooks.after or not getattr(response.reader, "repeats", False):
            return
        left, item = latest
        block = left.pieces[0].block if left.pieces else None
        lane = None if block is None else self._pieces.lane_of(block)
        if block is None or (lane is None and response.plan.text_by_channel[block.channel]):
            return  # no text, or one that is over
        response.flow = flow_of(left, item, response.queue, lane)
        if response.flow is not None:
            if response.flow.direct and not self._hooks.before:
                response.flow.alike = response.flow.path
            self._vain = self._vain + 1 if response.count - self._flowed < 2 else 0
            self._flowed = response.count

    async def run(self, flow: Flow, frames: Sequence[bytes], at: int, items: list[Item]) -> int:
        """`more` for the frames (without their blank lines) from `at` on, as long as they are of the flow and leave at
        once; what leaves is put to `items`. Returns where it stopped."""
        alike = _alike(flow.pattern, frames, at)
        if flow.direct and not self._hooks.before:
            return at + await self._straight(flow, alike, items)
        for frame, text in alike:
            at += 1
            leaving = await self.more(flow, frame, text)
            if leaving is None:
                break
            items += leaving
        return at

    def more(self, flow: Flow, frame: bytes, text: str) -> Awaitable[tuple[Item, ...] | None]:
        """`Response.take` for the next frame of the flow, and what may leave then. Where that is None, `drain` knows."""
        if self._hooks.before:
            return self._shown(flow, frame, text)
        return self._one(flow, frame, text) if flow.direct else self._held(flow, frame, text)

    def left_of(self, flow: Flow, text: str, frame: bytes = b"") -> str | Awaitable[str | None] | None:
        """What leaves of the next text, in a flow that is `direct`. `frame`: where it came in one; of a flow that is `alike`
        the text is enough."""
        response = self._response
        response.count += 1
        try:
            left = flow.left_of(text)
        except Stop as stop:
            response.intervene(stop.intervention)
            return None
        return left if left and type(left) is str else self._left_later(flow, text, frame, left)

    def freed(self) -> tuple[Item, ...] | None:
        """What of the flow may leave now; None where a writer has to see to it."""
        response = self._response
        ready: list[ReadChunk] = []
        for read in response.queue:
            if read.waiting:
                break
            if read.pieces[0].out == "":
                return None
            ready.append(read)
        for _ in ready:
            response.next_held()
        return tuple([written(read) for read in ready])

    # ------------------------------------------------------------------------------------------------------------------

    async def _shown(self, flow: Flow, frame: bytes, text: str) -> tuple[Item, ...] | None:
        """The chunk hooks see it first; what they put in its place ends the flow."""
        response, chunk = self._response, flow.chunk(frame)
        try:
            chunks = await self._hooks.started(chunk, flow, text)
            if len(chunks) == 1 and chunks[0] is chunk:
                return await (self._one if flow.direct else self._held)(flow, frame, text)
            number, response.count = response.count, response.count + 1
            response.flow = None
            # What a policy has asked for is its own: the frame itself is read anew.
            self.anew = [(parsed(frame), number) if each is chunk else (each, None) for each in chunks]
        except Stop as stop:
            response.intervene(stop.intervention)
        return None

    async def _left_later(
        self, flow: Flow, text: str, frame: bytes, said: str | Awaitable[str]
    ) -> str | None:
        response = self._response
        number = response.count - 1
        try:
            left = said if isinstance(said, str) else await said
        except Stop as stop:
            response.intervene(stop.intervention)
            return None
        if not left:
            self._emptied(flow, frame or flow.pattern.frame(text), text, number)
        return None if not left or response.done else left

    async def _one(self, flow: Flow, frame: bytes, text: str) -> tuple[Item, ...] | None:
        """Nobody keeps its text back."""
        number, said = self._response.count, self.left_of(flow, text, frame)
        left = said if said is None or isinstance(said, str) else await said
        item = None if left is None else flow.item(frame, text, number, left)
        return None if item is None else (item,)

    async def _straight(self, flow: Flow, alike: Iterable[tuple[bytes, str]], items: list[Item]) -> int:
        """Nobody keeps their texts back. How many frames were taken."""
        response, decided, taken = self._response, flow.decided, 0
        try:
            for frame, text in alike:
                taken += 1
                number, response.count = response.count, response.count + 1
                said = decided(frame, text, number)
                item = said if said is None or isinstance(said, tuple) else await said
                if item is None:
                    self._emptied(flow, frame, text, number)
                    break
                if response.done:
                    break
                items.append(item)
        except Stop as stop:
            response.intervene(stop.intervention)
        return taken

    def _emptied(self, flow: Flow, frame: bytes, text: str, number: int) -> None:
        """Nothing is left of its text, and a writer has to see to the rest."""
        read = flow.read(frame, text, number)
        read.pieces[0].out = ""
        self._response.hold(read)
        self._response.check_held()

    async def _held(self, flow: Flow, frame: bytes, text: str) -> tuple[Item, ...] | None:
        """Somebody keeps some of the text back."""
        response = self._response
        number, response.count = response.count, response.count + 1
        read = flow.read(frame, text, number)
        response.hold(read)
        flow.block.source.append(text)
        try:
            await self._pieces.delta(read, read.pieces[0], flow.block)
        except Stop as stop:
            response.intervene(stop.intervention)
        response.check_held()
        return None if response.done else self.freed()


def _alike(pattern: Pattern, frames: Sequence[bytes], at: int) -> Iterator[tuple[bytes, str]]:
    """Frames from `at` on, with their blank lines, and their texts, up to the first that is not like the pattern or has no
    text."""
    while at < len(frames):
        frame = frames[at] + b"\n\n"
        text = pattern.text_of(frame)
        if not text:
            return
        yield frame, text
        at += 1
