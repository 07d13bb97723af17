"""One response on its way out: a queue of chunks, each waiting until every policy that covers it has released it.

The order of chunks is never changed: a chunk leaves when it is at the head of the queue and nothing in it waits. What
keeps a chunk waiting are its *slots* (texts in a lane that holds them), its *calls* (until the call is decided) and,
for formats that want explanations before calls, the first call of a message until the last one is decided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from luthien_guard.engine.calls import CallLane
from luthien_guard.engine.chunks import ChunkHooks
from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.flow import Flow, flow_of, written
from luthien_guard.engine.leaving import Leaving, told
from luthien_guard.engine.snapshot import received, released, unsent
from luthien_guard.engine.text import Slot, Stop, TextLane, inspect_opaque, settle
from luthien_guard.engine.transcript import READABLE, numbers
from luthien_guard.engine.verdicts import Intervention, message_for
from luthien_guard.errors import IllegalOutput
from luthien_guard.events import (
    Chunk,
    ContentCompleted,
    ResponseCompleted,
    ResponseStarted,
    ToolCall,
)
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.policy import Abort, Retry
from luthien_guard.records import EventType
from luthien_guard.wire.chunks import is_keepalive, parsed
from luthien_guard.wire.format import Block as WireBlock
from luthien_guard.wire.format import Piece, PieceKind, ReadChunk

__all__ = ["Response"]

Item = tuple[bytes, int | None]
Job = Callable[[], Coroutine[Any, Any, None]]

_CLIENT_CALLS: Final = frozenset({"function", "legacy", "custom", "shell", "computer"})
_SUBSTANCE: Final = frozenset({PieceKind.FINISH, PieceKind.FAILED, PieceKind.END, PieceKind.STOP})
_VAIN_FLOWS: Final = 4


class Response:
    """The engine's side of one response. `take` chunks, then `drain` what may leave; `jobs` are verdicts that wait."""

    __slots__ = (
        "_barrier",
        "_calls",
        "_flowed",
        "_hooks",
        "_judged",
        "_judging",
        "_latest",
        "_leaving",
        "_offered",
        "_started",
        "_tails",
        "_text",
        "_undecided",
        "_vain",
        "blocks",
        "count",
        "cut",
        "done",
        "ended",
        "exchange",
        "failed",
        "finish_reasons",
        "flow",
        "held_bytes",
        "intervention",
        "jobs",
        "left",
        "plan",
        "queue",
        "reader",
        "status",
        "stream",
        "terminal",
        "unsent",
        "usage",
        "writer",
    )

    def __init__(self, exchange: Exchange, *, status: int, stream: bool) -> None:
        self.exchange = exchange
        self.plan = exchange.plan
        self.status = status
        self.stream = stream
        self.reader = exchange.format.reader(stream=stream)
        self.writer = exchange.format.writer(
            stream=stream, model=exchange.request.model, call_id=exchange.metadata.call_id
        )
        self.queue: deque[ReadChunk] = deque()
        self.jobs: list[Job] = []
        self.held_bytes = 0
        self.done = False
        self.ended = False  # the last chunk has been taken
        self.terminal = False  # upstream said that it is finished
        self.cut = False  # upstream ended inside a call, which was dropped
        self.intervention: Intervention | None = None  # what ended the answer
        self.failed: str | None = None  # what upstream said went wrong
        self.usage: Mapping[str, Any] | None = None
        self.finish_reasons: list[str] = []
        self.blocks: list[WireBlock] = []
        self.count = 0
        self._text: dict[int, TextLane] = {}
        self._calls: dict[int, CallLane] = {}
        self._undecided = 0  # calls
        self._barrier: ReadChunk | None = None  # the first call, where explanations must come before it
        self._tails: dict[Any, str] = {}
        self._started = False  # on_response_started was called
        self.left = False  # something has left
        self.unsent: Mapping[
            int, int
        ] = {}  # deltas that were still queued when the answer was ended, by block
        self._judged = not self.plan.holds_response
        self._judging = False
        self._hooks = ChunkHooks(exchange, stream=stream)
        self._leaving = Leaving(self._hooks, stream=stream) if self._hooks.after else None
        self._offered: frozenset[str] | None = None
        self.flow: Flow | None = None  # what comes now, as long as it is more of the same
        self._latest: tuple[ReadChunk, Item] | None = None  # what left last
        self._flowed = 0  # chunks when it began
        self._vain = 0  # flows of one frame, in a row

    # -- in ------------------------------------------------------------------------------------------------------------

    async def take(self, chunk: Chunk) -> None:
        """The next chunk from upstream."""
        number, self.count = self.count, self.count + 1
        self.flow = self._latest = None
        if self.done:
            return
        try:
            if self._hooks.before:
                for each in await self._hooks.started(chunk):
                    await self._read(each, number if each is chunk else None)
            else:
                await self._read(chunk, number)
        except Stop as stop:
            self.intervene(stop.intervention)
        self._check_held()

    async def more(self, flow: Flow, frame: bytes, text: str) -> tuple[Item, ...] | None:
        """`take` for the next frame of the flow, and what may leave then. Where that is None, `drain` knows."""
        if flow.direct and not self._hooks.before:
            item = await self._straight(flow, frame, text)
            return None if item is None else (item,)
        number, self.count = self.count, self.count + 1
        try:
            if self._hooks.before and not await self._passes(flow, frame, number):
                return None
            if flow.direct:
                self.count = number
                item = await self._straight(flow, frame, text)
                return None if item is None else (item,)
            await self._hold(flow.read(frame, text, number), decided=False)
        except Stop as stop:
            self.intervene(stop.intervention)
        self._check_held()
        return None if self.done or self.jobs else self._flowing()

    async def run(self, flow: Flow, frames: Sequence[bytes], at: int, items: list[Item]) -> int:
        """`more` for the frames (without their blank lines) from `at` on, as long as they are of the flow and leave at
        once; what leaves is put to `items`. Returns where it stopped."""
        text_of, alone = flow.pattern.text_of, flow.direct and not self._hooks.before
        while at < len(frames):
            frame = frames[at] + b"\n\n"
            text = text_of(frame)
            if not text:
                break
            at += 1
            if alone:
                item = await self._straight(flow, frame, text)
                if item is None:
                    break
                items.append(item)
            else:
                more = await self.more(flow, frame, text)
                if more is None:
                    break
                items += more
        return at

    async def _straight(self, flow: Flow, frame: bytes, text: str) -> Item | None:
        """What leaves for a frame whose text nobody keeps back."""
        number, self.count = self.count, self.count + 1
        try:
            item = await flow.decided(frame, text, number)
            if item is None:
                await self._hold(flow.read(frame, text, number), decided=True)
                self._check_held()
        except Stop as stop:
            self.intervene(stop.intervention)
            return None
        return None if self.done else item

    async def _passes(self, flow: Flow, frame: bytes, number: int) -> bool:
        """Show the chunk hooks a frame of the flow; False when they put something else in its place."""
        chunk = flow.chunk(frame)
        chunks = await self._hooks.started(chunk)
        if len(chunks) == 1 and chunks[0] is chunk:
            return True
        self.flow = None
        for each in chunks:
            await self._read(each, number if each is chunk else None)
        self._check_held()
        return False

    def _flowing(self) -> tuple[Item, ...] | None:
        """What of the flow may leave now; None where a writer has to see to it."""
        queue = self.queue
        ready: list[ReadChunk] = []
        for read in queue:
            if read.waiting:
                break
            if read.pieces[0].out == "":
                return None
            ready.append(read)
        for read in ready:
            queue.popleft()
            self.held_bytes -= len(read.chunk.raw)
        return tuple([written(read) for read in ready])

    async def _hold(self, read: ReadChunk, *, decided: bool) -> None:
        """Put a frame of the flow into the queue; `decided`: without its text."""
        self.queue.append(read)
        self.held_bytes += len(read.chunk.raw)
        piece = read.pieces[0]
        assert piece.block is not None
        if decided:
            piece.out = ""
        else:
            piece.block.source.append(piece.text)
            await self._delta(read, piece, piece.block)

    def _check_held(self) -> None:
        if self.held_bytes > self.exchange.services.limits.max_held_bytes and not self.done:
            self._abort("more bytes are held than the limit allows")

    async def _read(self, chunk: Chunk, number: int | None) -> None:
        if chunk.kind == "unknown" and not await self._hooks.lets_pass(chunk, inspectable=False):
            return
        pieces: list[Piece] = []
        if chunk.kind in READABLE:
            pieces = self.reader.read(chunk)
            unknown = getattr(self.reader, "unknown", "")
            if unknown and not await self._hooks.lets_pass(chunk, inspectable=True, reason=unknown):
                return
        read = ReadChunk(chunk, pieces, number)
        self.queue.append(read)
        self.held_bytes += len(chunk.raw)
        if not self._started and chunk.kind in ("data", "body"):
            await self._start()
        if chunk.kind == "body":  # its counts belong into the answer that may have to stand for it
            for piece in pieces:
                if piece.kind is PieceKind.USAGE:
                    self._note_usage(piece)
        for line in chunk.ignored:
            if not is_keepalive(line):
                await self._opaque(line, "comment")
        for piece in pieces:
            await self._piece(read, piece)
            if self.done:
                return

    async def _start(self) -> None:
        self._started = True
        event = ResponseStarted(self.status, self.reader.model, self.reader.id, self.stream)
        for call in self.plan.calls["on_response_started"]:
            result = await self.exchange.call(call, event)
            if result is None:
                continue
            if not isinstance(result, Intervention):
                result = self.exchange.nonsense(call, result, "Abort or Retry")
            if result is not None:
                raise Stop(result)

    async def _piece(self, read: ReadChunk, piece: Piece) -> None:
        kind = piece.kind
        block = piece.block
        if kind is PieceKind.DELTA:
            assert block is not None
            if block.kind == "text":
                await self._delta(read, piece, block)
            else:
                await self._fragment(read, piece, block)
        elif kind is PieceKind.START:
            self._begin(read, piece, block)
        elif kind is PieceKind.STOP:
            await self._stop(read, piece, block)
        elif kind is PieceKind.OPAQUE:
            await self._opaque(piece.text, piece.path)
        elif kind is PieceKind.FINISH:
            self.finish_reasons.append(piece.text)
            self.terminal = True
            self._lift_barrier()
        elif kind is PieceKind.END:
            self.terminal = True
        elif kind is PieceKind.USAGE:
            self._note_usage(piece)
        elif kind is PieceKind.FAILED:
            await self._failure(piece)
        elif block is not None and block.kind == "call":
            lane = self._calls.get(id(block))
            if lane is not None and lane.held and lane.pieces:
                lane.hold(read, piece)

    def _begin(self, read: ReadChunk, piece: Piece, block: WireBlock | None) -> None:
        assert block is not None
        self.blocks.append(block)
        if len(self.blocks) > self.exchange.services.limits.max_blocks:
            self._abort("more texts and tool calls than the limit allows")
        if block.kind == "text":
            plans = self.plan.text_by_channel[block.channel]
            if plans:
                self._text[id(block)] = TextLane(self.exchange, plans, block, settle)
            return
        if self.plan.call_completed or self.plan.call_fragments:
            lane = self._calls[id(block)] = CallLane(self.exchange, block)
            self._undecided += 1
            if lane.held:
                block.policed = True
                self._raise_barrier(read, block)
                lane.hold(read, piece)

    async def _delta(self, read: ReadChunk, piece: Piece, block: WireBlock) -> None:
        lane = self._text.get(id(block))
        if lane is None or not piece.text:
            return
        if lane.through:
            await lane.straight(piece)
            return
        read.waiting += 1
        slot = Slot(read, piece)
        if lane.waits:
            self._later(lane, slot)
        else:
            await lane.push(slot)

    async def _fragment(self, read: ReadChunk, piece: Piece, block: WireBlock) -> None:
        lane = self._calls.get(id(block))
        if lane is None:
            return
        if lane.held:
            lane.hold(read, piece)
        intervention = await lane.fragment(piece)
        if intervention is not None:
            raise Stop(intervention)

    async def _stop(self, read: ReadChunk, piece: Piece, block: WireBlock | None) -> None:
        assert block is not None
        if block.kind == "text":
            lane = self._text.pop(id(block), None)
            if lane is None:
                block.released = list(block.source)
            elif lane.waits:
                self._later(lane, None)
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
            self.cut = True
            call.drop()
            self._decided(call)
        elif self.plan.calls_wait:
            self.jobs.append(lambda: self._decide_call(call))
        else:
            await self._decide_call(call)

    # -- decisions -----------------------------------------------------------------------------------------------------

    def _later(self, lane: TextLane, slot: Slot | None) -> None:
        """A policy in this lane asks others: the work is a job, one at a time for the lane."""
        lane.inbox.append(slot)
        if not lane.busy:
            lane.busy = True
            self.jobs.append(lambda: self._work(lane))

    async def _work(self, lane: TextLane) -> None:
        try:
            await lane.work()
        except Stop as stop:
            self.intervene(stop.intervention)
        await self._maybe_judge()

    async def _decide_call(self, lane: CallLane) -> None:
        intervention = await lane.complete(self._tool_names())
        if self.done:
            return
        if intervention is not None:
            self.intervene(intervention)
        else:
            self._decided(lane)
            await self._maybe_judge()

    def _decided(self, lane: CallLane) -> None:
        lane.let_go()
        self._undecided -= 1
        if self.finish_reasons or self.ended:
            self._lift_barrier()

    def _tool_names(self) -> frozenset[str]:
        if self._offered is None:
            tools = [tool for tool in self.exchange.request.tools if isinstance(tool, dict)]
            inner = [tool.get("function") for tool in tools]
            names = [each.get("name") for each in (*tools, *inner) if isinstance(each, dict)]
            self._offered = frozenset(name for name in names if isinstance(name, str))
        return self._offered

    def _raise_barrier(self, read: ReadChunk, block: WireBlock) -> None:
        if self.exchange.format.calls_last and self._barrier is None and block.tool_kind in _CLIENT_CALLS:
            self._barrier = read
            read.waiting += 1

    def _lift_barrier(self) -> None:
        if self._barrier is not None and self._undecided == 0:
            self._barrier.waiting -= 1
            self._barrier = None

    async def _opaque(self, text: str, place: Any) -> None:
        plans = self.plan.text_by_channel["other"]
        if plans and text:
            await inspect_opaque(self.exchange, plans, text, self._tails, place)

    def _note_usage(self, piece: Piece) -> None:
        if isinstance(piece.value, Mapping):
            # message_start has the input's counts, message_delta the output's: the later wins, key by key
            self.usage = {**(self.usage or {}), **numbers(piece.value)}

    async def _failure(self, piece: Piece) -> None:
        await self._opaque(piece.text, piece.path)
        self.failed = piece.text
        self.exchange.decide_outcome(OutcomeStatus.UPSTREAM_ERROR, reason=piece.text[:500])
        await self.exchange.fail(piece.text, status=self.status)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Upstream has said everything: nothing can be held any longer, except for verdicts that wait."""
        if self.done or self.ended:
            return
        self.ended = True
        self.flow = None
        tail = ReadChunk(Chunk("comment", b""), self.reader.close())
        if tail.pieces:
            self.queue.append(tail)
        try:
            for piece in tail.pieces:
                await self._piece(tail, piece)
        except Stop as stop:
            self.intervene(stop.intervention)
        self._lift_barrier()
        await self._maybe_judge()

    @property
    def complete(self) -> bool:
        """Everything has been taken, decided and drained."""
        return self.ended and not self.queue and not self.jobs

    async def _maybe_judge(self) -> None:
        """A policy that holds the whole response judges it when every part of it is decided."""
        if self._judged or self._judging or self.done or not self.ended:
            return
        if self._undecided or any(read.waiting for read in self.queue):
            return
        self._judging = True
        if self.plan.response_waits:
            self.jobs.append(self._judge_response)
        else:
            await self._judge_response()

    async def _judge_response(self) -> None:
        event = self.completed()
        for call in self.plan.calls["on_response_completed"]:
            result = await self.exchange.call(call, event)
            if isinstance(result, Intervention):
                self.intervene(result)
                return
        self._judged = True

    def completed(self) -> ResponseCompleted:
        """The response as it leaves, assembled."""
        kept = [block for block in self.blocks if not block.removed]
        texts = [block for block in kept if block.kind == "text"]
        calls = [block for block in kept if block.kind == "call"]
        return ResponseCompleted(
            status=self.status,
            model=self.reader.model,
            id=self.reader.id,
            content=tuple(_content(block) for block in texts),
            tool_calls=tuple(_call(block) for block in calls),
            finish_reasons=tuple(self.finish_reasons),
            usage=dict(self.usage or {}),
        )

    def recorded(self) -> None:
        """Put both ends of the response into the record: as it came, and as it left where that is something else."""
        came = received(self._hooks.came or self)
        self.exchange.record(EventType.RESPONSE_RECEIVED, chunk_count=self.count, **came)
        if self._left_as_it_came():
            return
        changed = self._leaving is not None and self._hooks.made_by is not None
        as_it_left = self._leaving.transcript if changed and self._leaving is not None else None
        left = released(self, as_it_left, said=self.exchange.said)
        if {**left, "said": None} != {**came, "said": None} or left["said"]:
            self.exchange.record(EventType.RESPONSE_RELEASED, **left)

    def _left_as_it_came(self) -> bool:
        if not self.left or self.done or self.queue or self.exchange.said is not None:
            return False
        if self._hooks.made_by is not None:
            return False
        return not any(block.changed or block.removed or block.new_name for block in self.blocks)

    def intervene(self, intervention: Intervention) -> None:
        """The answer ends here. What is still held never leaves."""
        if self.done:
            return
        self.done = True
        self.flow = None
        self.intervention = intervention
        if not isinstance(intervention.verdict, Retry):
            self.exchange.intervened(intervention)
        self.unsent = unsent(self.queue)
        self.queue.clear()
        self.jobs.clear()
        self.held_bytes = 0

    def _abort(self, reason: str) -> None:
        self.exchange.record(
            EventType.VERDICT, policy="limits", verdict="abort", reason=reason, enforced=True
        )
        self.intervene(Intervention("limits", Abort(reason)))

    # -- out -----------------------------------------------------------------------------------------------------------

    async def drain(self) -> list[Item]:
        """What may leave now. Once an intervention stands, the end of the answer."""
        if self.done:
            return self._last_words()
        if not self._judged:
            return []
        ready = self._ready()
        if self._leaving is not None and ready:
            ready = await self._after(self._leaving, ready)
        if not ready or self.done:
            return self._last_words() if self.done else []
        # what a policy made may be illegal, and then only that must not leave: not what stands before it
        batches = [[read] for read in ready] if self._hooks.made_by is not None else [ready]
        items: list[Item] = []
        try:
            for batch in batches:
                items += self._written(batch)
        except IllegalOutput as error:
            self.intervene(self._hooks.illegal(error))
        if items and not self.left:
            self.left = self.exchange.released_any = True
            self.exchange.first_byte = self.exchange.services.clock()
        self._latest = (ready[-1], items[-1]) if len(items) == len(ready) else None
        return [*items, *self._last_words()] if self.done else items

    def _written(self, ready: list[ReadChunk]) -> list[Item]:
        if all(read.pattern is not None and read.pieces[0].out != "" for read in ready):
            return [written(read) for read in ready]
        for read in ready:
            if read.pattern is not None:
                read.chunk = parsed(read.chunk.raw)
        items = self.writer.write(ready)
        return items if self._leaving is None else told(items)

    def begin_flow(self) -> None:
        """See whether what left last is one of many alike. Ask only where no frame has begun that is not whole yet."""
        latest, self._latest = self._latest, None
        if latest is None or self._vain >= _VAIN_FLOWS or self.done or self.ended or self.jobs:
            return
        if self._hooks.after or not getattr(self.reader, "repeats", False):
            return
        left, item = latest
        block = left.pieces[0].block if left.pieces else None
        lane = self._text.get(id(block))
        if block is None or (lane is None and self.plan.text_by_channel[block.channel]):
            return  # no text, or one that is over
        self.flow = flow_of(left, item, self.queue, lane)
        if self.flow is not None:
            self._vain = self._vain + 1 if self.count - self._flowed < 2 else 0
            self._flowed = self.count

    def _ready(self) -> list[ReadChunk]:
        queue = self.queue
        ready: list[ReadChunk] = []
        while queue and queue[0].waiting == 0:
            ready.append(queue.popleft())
        if not self.left and not self.ended and self.plan.holds_start and not _has_substance(ready):
            queue.extendleft(reversed(ready))
            return []
        for read in ready:
            self.held_bytes -= len(read.chunk.raw)
            for piece in read.pieces:
                if piece.kind is PieceKind.ECHO and piece.block is not None and piece.block.changed:
                    piece.out = piece.block.released_text
        return ready

    async def _after(self, leaving: Leaving, ready: list[ReadChunk]) -> list[ReadChunk]:
        try:
            return await leaving.read(ready)
        except Stop as stop:
            self.intervene(stop.intervention)
        except IllegalOutput as error:
            self.intervene(self._hooks.illegal(error))
        return []

    def _last_words(self) -> list[Item]:
        """The well-formed end of a blocked answer, once; nothing for a retry or for an answer instead."""
        intervention, self.intervention = self.intervention, None
        if intervention is None or isinstance(intervention.verdict, Retry) or not self.left:
            self.intervention = intervention
            return []
        return [(raw, None)] if (raw := self.closing(intervention)) else []

    def closing(self, intervention: Intervention) -> bytes:
        """Bytes that end the answer with the intervention's message."""
        message = self.exchange.said = message_for(intervention)
        refused = self.exchange.services.on_block == "error"
        if refused and self.stream and self.left and self.exchange.format.name == "openai.responses":
            return self.writer.fail(400, "invalid_prompt", message)
        return self.writer.end(message, self.usage)


def _has_substance(ready: list[ReadChunk]) -> bool:
    return any(
        piece.kind in _SUBSTANCE or (piece.kind is PieceKind.DELTA and piece.text)
        for read in ready
        for piece in read.pieces
    )


def _content(block: WireBlock) -> ContentCompleted:
    text = block.released_text if block.released else block.text
    return ContentCompleted(text, block.channel, block.choice, block.index, block.writable)


def _call(block: WireBlock) -> ToolCall:
    return ToolCall(
        block.id,
        block.new_name or block.name,
        block.released_text if block.released else block.text,
        block.tool_kind,
        block.choice,
        block.index,
        complete=block.closed,
    )
