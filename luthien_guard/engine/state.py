"""What is known of one response, to everything in the engine that works on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.engine.calls import CallLane
from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.flow import Flow
from luthien_guard.engine.snapshot import half_left, unsent
from luthien_guard.engine.text import Line
from luthien_guard.engine.transcript import numbers
from luthien_guard.engine.verdicts import Intervention
from luthien_guard.policy import Abort, Retry
from luthien_guard.records import EventType
from luthien_guard.wire.format import Block, ReadChunk

__all__ = ["Item", "Job", "ResponseState"]

#: Bytes that leave, and the number of the chunk that leaves as it came in them.
Item = tuple[bytes, int | None]
#: What to decide: the texts of a line, a call, or (None) the whole response.
Job = Line | CallLane | None
#: Bytes that a chunk takes besides its own: an upstream may send millions of tiny ones.
_FRAME: Final = 256


class ResponseState:
    """The queue of chunks, what was read in them, and how the answer ends."""

    __slots__ = (
        "blocks",
        "broken",
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
        self.reader = exchange.reader(stream=stream)
        self.writer = exchange.writer(stream=stream)
        self.queue: deque[ReadChunk] = deque()
        self.held_bytes = 0
        self.jobs: list[Job] = []  # verdicts that wait
        self.count = 0  # chunks that came
        self.flow: Flow | None = None  # what comes now, as long as it is more of the same
        self.blocks: list[Block] = []
        self.finish_reasons: dict[int, str] = {}  # by choice
        self.usage: Mapping[str, Any] | None = None
        self.failed: str | None = None  # what upstream said went wrong
        self.terminal = False  # upstream said that it is finished
        self.ended = False  # the last chunk has been taken
        self.cut = False  # upstream ended inside a call, which was dropped
        self.broken = False  # a call had begun to leave when the answer was ended
        self.left = False  # something has left
        self.done = False  # nothing more leaves but the end that the intervention wants
        self.intervention: Intervention | None = None  # what ended the answer
        #: of what was still queued when the answer was ended (`snapshot.unsent`)
        self.unsent: Mapping[int, int | None] = {}

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
        self.broken = self.left and any(half_left(block, self.unsent) for block in self.blocks)
        self.queue.clear()
        self.held_bytes = 0

    def abort(self, reason: str) -> None:
        """End the answer in the name of the limits."""
        self.exchange.record(
            EventType.VERDICT, policy="limits", verdict="abort", reason=reason, enforced=True
        )
        self.intervene(Intervention("limits", Abort(reason)))

    def hold(self, read: ReadChunk) -> None:
        """Put a chunk at the end of the queue."""
        self.queue.append(read)
        self.held_bytes += len(read.chunk.raw)

    def next_held(self) -> ReadChunk:
        """Take the first chunk out of the queue."""
        read = self.queue.popleft()
        self.held_bytes -= len(read.chunk.raw)
        return read

    def take_back(self, ready: Sequence[ReadChunk]) -> None:
        """What was to leave does not: the answer ends before it."""
        self.queue.extendleft(reversed(ready))

    def check_held(self) -> None:
        if not self.stream:  # a body has its own limit, and is held until its end in any case
            return
        held = self.held_bytes + len(self.queue) * _FRAME
        if held > self.exchange.services.limits.max_held_bytes and not self.done:
            self.abort("more bytes are held than the limit allows")

    def note_usage(self, usage: Any) -> None:
        """A message's start has the input's counts, its end the output's: the later wins, key by key."""
        if isinstance(usage, Mapping):
            self.usage = {**(self.usage or {}), **numbers(usage)}
