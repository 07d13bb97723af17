"""One response on its way out: a queue of chunks, each waiting until every policy that covers it has released it.

The order of chunks is never changed: a chunk leaves when it is at the head of the queue and nothing in it waits. What
keeps a chunk waiting are its *slots* (texts in a lane that holds them), its *calls* (until the call is decided) and,
for formats that want explanations before calls, the first call of a message until the last one is decided.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from luthien_guard.engine.chunks import ChunkHooks
from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.flow import written
from luthien_guard.engine.flows import Flows
from luthien_guard.engine.leaving import Leaving, told
from luthien_guard.engine.pieces import Pieces
from luthien_guard.engine.snapshot import completed, received, released
from luthien_guard.engine.state import Item, Job, ResponseState
from luthien_guard.engine.transcript import READABLE
from luthien_guard.engine.verdicts import Intervention, Stop, message_for
from luthien_guard.errors import IllegalOutput
from luthien_guard.events import Chunk, ResponseCompleted, ResponseStarted
from luthien_guard.policy import Retry
from luthien_guard.records import EventType
from luthien_guard.wire.chunks import is_keepalive, parsed
from luthien_guard.wire.foreign import NO_ANSWER
from luthien_guard.wire.format import PieceKind, ReadChunk

__all__ = ["Response"]

#: What those pieces stand in that come with the end.
_NO_CHUNK: Final = Chunk("comment", b"")
_SUBSTANCE: Final = frozenset({PieceKind.FINISH, PieceKind.FAILED, PieceKind.END, PieceKind.STOP})


class Response:
    """The engine's side of one response. `take` chunks, then `drain` what may leave; the state's `jobs` are verdicts that
    wait: `judge` after each of them.

    What it is made of knows its state, and nothing of it: it is gone when its exchange is, without a garbage collection.
    """

    __slots__ = (
        "_hooks",
        "_judged",
        "_judging",
        "_leaving",
        "_looked",
        "_pieces",
        "_started",
        "exchange",
        "flows",
        "plan",
        "state",
    )

    def __init__(self, exchange: Exchange, *, status: int, stream: bool) -> None:
        self.exchange = exchange
        self.plan = exchange.plan
        self.state = ResponseState(exchange, status=status, stream=stream)
        self._hooks = ChunkHooks(exchange, stream=stream)
        self._pieces = Pieces(self.state)
        self._leaving = Leaving(self._hooks, stream=stream) if self._hooks.after else None
        self.flows = Flows(self.state, self._pieces, self._hooks)
        self._started = False  # on_response_started was called
        self._looked = 0  # chunks of the queue that are known to be of the envelope, before anything has left
        self._judged = not self.plan.holds_response
        self._judging = False

    # -- in ------------------------------------------------------------------------------------------------------------

    async def take(self, chunk: Chunk) -> None:
        """The next chunk from upstream."""
        state = self.state
        number, state.count = state.count, state.count + 1
        state.flow = self.flows.latest = None
        if state.done:
            return
        try:
            if self._hooks.before:
                for each in await self._hooks.started(chunk):
                    await self._read(each, number if each is chunk else None)
            else:
                await self._read(chunk, number)
        except Stop as stop:
            state.intervene(stop.intervention)
        state.check_held()

    async def again(self) -> None:
        """Read what a policy has put in the place of a flow's frame."""
        anew, self.flows.anew = self.flows.anew, []
        try:
            for chunk, number in anew:
                await self._read(chunk, number)
        except Stop as stop:
            self.state.intervene(stop.intervention)
        self.state.check_held()

    async def _read(self, chunk: Chunk, number: int | None) -> None:
        state, reader = self.state, self.state.reader
        maker = self._hooks.maker_of(chunk) if self._hooks.before else None
        pieces = reader.read(chunk) if chunk.kind in READABLE else []
        # What nobody can read may be all: proxies answer with pages.
        if not self._started and chunk.kind not in ("comment", "done"):
            await self._start()
        # Asked here first: it is a step less for nearly every chunk.
        suspect = chunk.kind == "unknown" or getattr(reader, "unknown", False)
        if suspect and not await self._passes(chunk):
            return
        read = ReadChunk(chunk, pieces, number)
        read.made_by = maker
        state.hold(read)
        if chunk.kind == "body":  # its counts belong into the answer that may have to stand for it
            for piece in pieces:
                if piece.kind is PieceKind.USAGE:
                    state.note_usage(piece.value)
        for line in chunk.ignored:
            if not is_keepalive(line):
                await self._pieces.others.take_comment(line)
        for piece in pieces:
            await self._pieces.take(read, piece)
            if state.done:
                return

    async def _passes(self, chunk: Chunk) -> bool:
        """Nobody objects to its kind."""
        if chunk.kind == "unknown":
            return await self._hooks.lets_pass(chunk, inspectable=False)
        unknown = getattr(self.state.reader, "unknown", "") if chunk.kind in READABLE else ""
        return not unknown or await self._hooks.lets_pass(
            chunk, inspectable=unknown is not NO_ANSWER, reason=unknown
        )

    async def _start(self) -> None:
        self._started = True
        if not (calls := self.plan.calls["on_response_started"]):
            return
        event = ResponseStarted(
            self.state.status, self.state.reader.model, self.state.reader.id, self.state.stream
        )
        for call in calls:
            result = await self.exchange.call(call, event)
            if result is None:
                continue
            if not isinstance(result, Intervention):
                result = self.exchange.nonsense(call, result, "Abort or Retry")
            if result is not None:
                raise Stop(result)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Upstream has said everything: nothing can be held any longer, except for verdicts that wait."""
        if self.state.done or self.state.ended:
            return
        self.state.ended = True
        self.state.flow = None
        tail = ReadChunk(_NO_CHUNK, self.state.reader.close())
        if tail.pieces:
            self.state.queue.append(tail)
        try:
            if not self._started:
                await self._start()
            for piece in tail.pieces:
                await self._pieces.take(tail, piece)
        except Stop as stop:
            self.state.intervene(stop.intervention)
        self._pieces.lift_barrier()
        await self.judge()

    @property
    def complete(self) -> bool:
        """Everything has been taken, decided and drained."""
        return self.state.ended and not self.state.queue and not self.state.jobs

    @property
    def all_left(self) -> bool:
        """Everything that is to leave has: who is still at work only looks on."""
        return self.state.ended and self._judged and not self.state.queue and not self.state.cut

    async def judge(self) -> None:
        """A policy that holds the whole response judges it when every part of it is decided."""
        if self._judged or self._judging or self.state.done or not self.state.ended:
            return
        if self._pieces.undecided or any(read.waiting for read in self.state.queue):
            return
        self._judging = True
        if self.plan.response_waits:
            self.state.jobs.append(None)
        else:
            await self._judge_response()

    def decide(self, job: Job) -> Awaitable[None]:
        """Do one of the state's jobs."""
        return self._judge_response() if job is None else self._pieces.decide(job)

    async def _judge_response(self) -> None:
        event = self.completed()
        for call in self.plan.calls["on_response_completed"]:
            result = await self.exchange.call(call, event)
            if result is not None and not isinstance(result, Intervention):
                result = self.exchange.nonsense(call, result, "a verdict")
            if result is not None:
                self.state.intervene(result)
                return
        self._judged = True

    def completed(self) -> ResponseCompleted:
        """The response as it leaves."""
        return completed(self.state, self._pieces.others.completed())

    def recorded(self) -> None:
        """Put both ends of the response into the record: as it came, and as it left where that is something else."""
        came = received(self._hooks.came or self.state)
        self.exchange.record(EventType.RESPONSE_RECEIVED, chunk_count=self.state.count, **came)
        if self._left_as_it_came():
            return
        changed = self._leaving is not None and self._hooks.made_by is not None
        as_it_left = self._leaving if changed else None
        left = released(self.state, as_it_left, said=self.exchange.said)
        if {**left, "said": None} != {**came, "said": None} or left["said"]:
            self.exchange.record(EventType.RESPONSE_RELEASED, **left)

    def _left_as_it_came(self) -> bool:
        if not self.state.left or self.state.done or self.state.queue or self.exchange.said is not None:
            return False
        if self._hooks.made_by is not None:
            return False
        return not any(block.changed or block.removed or block.new_name for block in self.state.blocks)

    # -- out -----------------------------------------------------------------------------------------------------------

    async def drain(self) -> list[Item]:
        """What may leave now. Once an intervention stands, the end of the answer."""
        if self.state.done:
            return self._last_words()
        if not self._judged or not self.state.queue:
            return []
        ready = self._ready()
        if self._leaving is not None and ready:
            decided = await self._after(self._leaving, ready)
            ready = decided if self.plan.enforces else ready
        if not ready or self.state.done:
            return self._last_words() if self.state.done else []
        items: list[Item] = []
        batches, at, undone = self._batches(ready), 0, list[ReadChunk]()
        try:
            while at < len(batches):
                items += self._written(batches[at])
                at += 1
        except IllegalOutput as error:
            self.state.left = self.state.left or bool(items)
            undone = [read for batch in batches[at:] for read in batch]
            self.state.take_back(undone)
            self.state.intervene(self._hooks.illegal(error, batches[at]))
        if self._leaving is not None:
            self._leaving.undone = undone
        if items and self.exchange.first_byte is None:
            self.state.left = self.exchange.released_any = True
            self.exchange.first_byte = self.exchange.services.clock()
        self.flows.latest = (ready[-1], items[-1]) if len(items) == len(ready) else None
        return [*items, *self._last_words()] if self.state.done else items

    def _batches(self, ready: list[ReadChunk]) -> list[list[ReadChunk]]:
        """What a policy made may be illegal, and then only that must not leave: not what stands before it. Calls whose
        explanations stand before the first of them are written together."""
        if self.exchange.changed_by is None:
            return [ready]
        alone = len(ready)
        if self.exchange.format.calls_last:
            alone = next((at for at, read in enumerate(ready) if _begins_call(read)), alone)
        return [*([read] for read in ready[:alone]), *([ready[alone:]] if ready[alone:] else [])]

    def _written(self, ready: list[ReadChunk]) -> list[Item]:
        flowing = [read for read in ready if read.pattern is not None]
        if len(flowing) == len(ready) and all(read.pieces[0].out != "" for read in flowing):
            return [written(read) for read in flowing]
        for read in flowing:
            read.chunk = parsed(read.chunk.raw)
        items = self.state.writer.write(ready)
        # Who only looks on makes nothing right that clients would read in several ways.
        if not self.plan.enforces:
            return [(read.chunk.raw, read.source) for read in ready if read.chunk.raw]
        return items if self._leaving is None else told(items)

    def _ready(self) -> list[ReadChunk]:
        ready: list[ReadChunk] = []
        if not self.state.left and self.plan.holds_start and not self._may_start():
            return ready
        while self.state.queue and self.state.queue[0].waiting == 0:
            ready.append(self.state.next_held())
        self._looked = 0
        for read in ready:
            for piece in read.pieces:
                if piece.kind is PieceKind.ECHO and piece.block is not None and piece.block.changed:
                    piece.out = piece.block.released_text
        return ready

    def _may_start(self) -> bool:
        """As long as only the envelope could leave, another status, another try or another answer is possible."""
        queue = self.state.queue
        while self._looked < len(queue) and queue[self._looked].waiting == 0:
            if _has_substance(queue[self._looked]):
                return True
            self._looked += 1  # once, however often is asked
        return self.state.ended and self._looked == len(queue) and not self.state.jobs

    async def _after(self, leaving: Leaving, ready: list[ReadChunk]) -> list[ReadChunk]:
        decided: list[ReadChunk] | None = None
        intervention: Intervention | None = None
        try:
            decided = await leaving.read(ready)
        except Stop as stop:
            intervention = stop.intervention
        except IllegalOutput as error:
            intervention = self._hooks.illegal(error, ready)
        finally:
            if decided is None:  # also when a hook is cancelled, which takes too long
                self.state.take_back(ready)
        if intervention is not None:
            self.state.intervene(intervention)
        return decided or []

    def _last_words(self) -> list[Item]:
        """The well-formed end of a blocked answer, once; nothing for a retry or for an answer instead."""
        intervention, self.state.intervention = self.state.intervention, None
        if intervention is None or isinstance(intervention.verdict, Retry) or not self.state.left:
            self.state.intervention = intervention
            return []
        return [(raw, None)] if (raw := self.closing(intervention)) else []

    def closing(self, intervention: Intervention) -> bytes:
        """Bytes that end the answer with the intervention's message."""
        message = self.exchange.said = message_for(intervention)
        state, format = self.state, self.exchange.format
        refused = self.exchange.services.on_block == "error" and format.refuses_in_stream
        # what is left of a call may not look like a whole one, which clients run
        if (refused or state.broken) and state.stream and state.left:
            return state.writer.fail(*format.refusal, message)
        return state.writer.end(message, state.usage)


def _has_substance(read: ReadChunk) -> bool:
    return any(
        piece.kind in _SUBSTANCE or (piece.kind is PieceKind.DELTA and piece.text) for piece in read.pieces
    )


def _begins_call(read: ReadChunk) -> bool:
    return any(
        piece.kind is PieceKind.START and piece.block is not None and piece.block.kind == "call"
        for piece in read.pieces
    )
