"""The pieces of a response on their way through the policies that cover them: texts, tool calls, opaque strings."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Final

from luthien_guard.engine.calls import CallLane
from luthien_guard.engine.others import Others
from luthien_guard.engine.plan import TextStagePlan
from luthien_guard.engine.state import ResponseState
from luthien_guard.engine.text import Line, TextLane
from luthien_guard.engine.verdicts import Stop
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.wire.format import Block, Piece, PieceKind, ReadChunk

__all__ = ["Pieces"]

_CLIENT_CALLS: Final = frozenset({"function", "legacy", "custom", "shell", "computer"})


class Pieces:
    """Takes pieces in order. Each is decided at once, kept in its lane, or made a job."""

    __slots__ = (
        "_barrier",
        "_calls",
        "_lines",
        "_looking_back",
        "_offered",
        "_others",
        "_response",
        "_text",
        "undecided",
    )

    def __init__(self, response: ResponseState) -> None:
        self._response = response
        self._text: dict[int, TextLane] = {}
        self._lines: dict[int, Line] = {}  # of each open text whose policies ask others
        self._looking_back: dict[tuple[int, str], Line] = {}
        self._calls: dict[int, CallLane] = {}
        self._barrier: ReadChunk | None = None  # the first call, where explanations must come before it
        self._others: Others | None = None
        self._offered: frozenset[str] | None = None
        self.undecided = 0  # calls

    @property
    def others(self) -> Others:
        """Made for the first string that the wire format does not model: most answers have none."""
        if self._others is None:
            self._others = Others(self._response)
        return self._others

    def lane_of(self, block: Block) -> TextLane | None:
        """The open lane of a text."""
        return self._text.get(id(block))

    async def take(self, read: ReadChunk, piece: Piece) -> None:
        kind = piece.kind
        block = piece.block
        if kind is PieceKind.DELTA:
            assert block is not None
            if block.kind == "text":
                await self.delta(read, piece, block)
            else:
                await self._fragment(read, piece, block)
        elif kind is PieceKind.START:
            self._begin(read, piece, block)
        elif kind is PieceKind.STOP:
            await self._stop(read, piece, block)
        elif kind is PieceKind.OPAQUE:
            await self.others.take(piece, read)
        elif kind is PieceKind.FINISH:
            self._response.finish_reasons[piece.value or 0] = piece.text
            self._response.terminal = True
            self.lift_barrier()
        elif kind is PieceKind.END:
            self._response.terminal = True
        elif kind is PieceKind.USAGE:
            self._response.note_usage(piece.value)
        elif kind is PieceKind.FAILED:
            await self._failure(read, piece)
        elif block is not None and block.kind == "call":
            lane = self._calls.get(id(block))
            if lane is not None and lane.held and lane.pieces:
                lane.hold(read, piece)

    def _begin(self, read: ReadChunk, piece: Piece, block: Block | None) -> None:
        assert block is not None
        self._response.blocks.append(block)
        limits = self._response.exchange.services.limits
        if len(self._response.blocks) > limits.max_blocks:
            self._response.abort("more texts and tool calls than the limit allows")
        elif block.choice >= limits.max_choices:
            self._response.abort("more choices than the limit allows")
        if block.kind == "text":
            plans = self._response.plan.text_by_channel[block.channel]
            if plans:
                text = self._text[id(block)] = TextLane(self._response.exchange, plans, block)
                if text.waits:
                    self._lines[id(block)] = self._line(block, plans)
            return
        block.policed = self._response.plan.holds_response
        if self._response.plan.call_completed or self._response.plan.call_fragments:
            lane = self._calls[id(block)] = CallLane(self._response.exchange, block)
            self.undecided += 1
            if lane.held:
                block.policed = True
                self._raise_barrier(read, block)
                lane.hold(read, piece)

    async def delta(self, read: ReadChunk, piece: Piece, block: Block) -> None:
        lane = self._text.get(id(block))
        if lane is None or not piece.text:
            return
        if lane.through:
            await lane.straight(piece)
            return
        read.waiting += 1
        if lane.waits:
            self._later(lane, self._lines[id(block)], read, piece)
        else:
            await lane.push(read, piece)

    async def _fragment(self, read: ReadChunk, piece: Piece, block: Block) -> None:
        lane = self._calls.get(id(block))
        if lane is None:
            return
        if lane.held:
            lane.hold(read, piece)
        intervention = await lane.fragment(piece)
        if intervention is not None:
            raise Stop(intervention)

    async def _stop(self, read: ReadChunk, piece: Piece, block: Block | None) -> None:
        assert block is not None
        if block.kind == "text":
            lane = self._text.pop(id(block), None)
            if lane is None:
                block.released = list(block.source)
            elif lane.waits:
                self._later(lane, self._lines.pop(id(block)))
            else:
                await lane.finish()
            return
        call = self._calls.get(id(block))
        if call is None:
            block.released = list(block.source)
            return
        if call.held:
            call.hold(read, piece)
        if call.held and not block.closed:
            self._response.cut = True
            call.drop()
            self._decided(call)
        elif self._response.plan.calls_wait:
            self._response.jobs.append(call)
        else:
            await self._decide_call(call)

    def decide(self, job: Line | CallLane) -> Awaitable[None]:
        """Do one of the jobs."""
        return self._work(job) if isinstance(job, Line) else self._decide_call(job)

    # -- decisions -----------------------------------------------------------------------------------------------------

    def _later(
        self, lane: TextLane, line: Line, read: ReadChunk | None = None, piece: Piece | None = None
    ) -> None:
        """A policy in this lane asks others: the work is a job, one at a time for the line."""
        line.put((lane, read, piece))
        if not line.busy:
            line.busy = True
            self._response.jobs.append(line)

    def _line(self, block: Block, plans: Sequence[TextStagePlan]) -> Line:
        """Who looks back at the text before needs to know what became of it; all others look at texts at the same time."""
        if not any(plan.lookahead for plan in plans):
            return Line()
        return self._looking_back.setdefault((block.choice, block.channel), Line())

    async def _work(self, line: Line) -> None:
        try:
            while line.goes_on():
                lane, read, piece = line.next()
                await (lane.finish() if read is None or piece is None else lane.push(read, piece))
        except Stop as stop:
            self._response.intervene(stop.intervention)

    async def _decide_call(self, lane: CallLane) -> None:
        intervention = await lane.complete(self._tool_names())
        if self._response.done:
            return
        if intervention is not None:
            self._response.intervene(intervention)
        else:
            self._decided(lane)

    def _decided(self, lane: CallLane) -> None:
        lane.let_go()
        self.undecided -= 1
        if self._response.finish_reasons or self._response.ended:
            self.lift_barrier()

    def _tool_names(self) -> frozenset[str]:
        if self._offered is None:
            tools = [tool for tool in self._response.exchange.request.tools if isinstance(tool, dict)]
            inner = [tool.get("function") for tool in tools]
            names = [each.get("name") for each in (*tools, *inner) if isinstance(each, dict)]
            self._offered = frozenset(name for name in names if isinstance(name, str))
        return self._offered

    def _raise_barrier(self, read: ReadChunk, block: Block) -> None:
        if (
            self._response.exchange.format.calls_last
            and self._barrier is None
            and block.tool_kind in _CLIENT_CALLS
        ):
            self._barrier = read
            read.waiting += 1

    def lift_barrier(self) -> None:
        if self._barrier is not None and self.undecided == 0:
            self._barrier.waiting -= 1
            self._barrier = None

    async def _failure(self, read: ReadChunk, piece: Piece) -> None:
        await self.others.take(piece, read)
        self._response.failed = piece.text
        exchange = self._response.exchange
        exchange.decide_outcome(
            OutcomeStatus.UPSTREAM_ERROR, reason=exchange.record.redacted(piece.text)[:500]
        )
        await exchange.fail(piece.text, status=self._response.status)
