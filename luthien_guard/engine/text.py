"""What a text goes through: one lane a block, one stage a policy.

A lane moves *runs*: (slot, n, text), where the slot is the place in a chunk that the text came from and n counts the
characters of that place that the run settles. Stages may change the text of a run and keep runs back; when all
characters of a slot have come out of the last stage, the slot is settled and its chunk may leave. So an untouched
chunk leaves as it came, whatever was held and for how long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Sequence
from typing import TypeAlias

from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.plan import TextStagePlan
from luthien_guard.engine.runs import Run, Slot
from luthien_guard.engine.stages import Stage, stage_of
from luthien_guard.wire.format import Block, Piece, ReadChunk

__all__ = ["Line", "TextLane"]

#: The chunk that waits and a delta in it; None for the end of the lane.
Waiting: TypeAlias = "tuple[TextLane, ReadChunk | None, Piece | None]"


class Line:
    """What has to go through lanes whose policies ask others, one after the other."""

    __slots__ = ("_todo", "busy")

    def __init__(self) -> None:
        self._todo: deque[Waiting] = deque()
        self.busy = False  # there is a job that sees to it

    def put(self, waiting: Waiting) -> None:
        self._todo.append(waiting)

    def goes_on(self) -> bool:
        """Something comes now; otherwise nobody is busy with it any more."""
        self.busy = bool(self._todo)
        return self.busy

    def next(self) -> Waiting:
        return self._todo.popleft()


class TextLane:
    """The chain of one block. `push` each delta, `finish` once; both raise Stop on a verdict."""

    __slots__ = ("_keeps", "block", "stages", "through", "waits")

    def __init__(self, exchange: Exchange, plans: Sequence[TextStagePlan], block: Block) -> None:
        self.block = block
        self.stages = [stage_of(exchange, plan, block) for plan in plans]
        self.waits = any(plan.call.registered.policy.waits and not plan.shadow for plan in plans)
        # Where nobody keeps anything back, texts go straight through, without runs.
        self._keeps = not all(type(stage) is Stage for stage in self.stages)
        self.through = not self.waits and not self._keeps

    async def push(self, read: ReadChunk, piece: Piece) -> None:
        """A delta that the chunk waits for."""
        if not self._keeps:
            said = self.decide(piece.text)
            self._leaves(piece, said if isinstance(said, str) else await said)
            read.waiting -= 1
            return
        slot = Slot(read, piece)
        runs = [Run(slot, slot.left, piece.text)]
        for stage in self.stages:
            runs = await stage.push(runs)
            if not runs:
                return
        self._out(runs)

    async def straight(self, piece: Piece) -> None:
        """`push` for a lane that is `through`."""
        said = self.decide(piece.text)
        self._leaves(piece, said if isinstance(said, str) else await said)

    def decide(self, text: str) -> str | Awaitable[str]:
        """What goes on of a text of which nobody keeps anything back; to be awaited only where a policy waits for
        somebody."""
        for at, stage in enumerate(self.stages, 1):
            said = stage.decide(text)
            if not isinstance(said, str):
                return said if at == len(self.stages) else self._decide_later(said, at)
            text = said
        return text

    async def _decide_later(self, said: Awaitable[str], at: int) -> str:
        text = await said
        for stage in self.stages[at:]:
            next_said = stage.decide(text)
            text = next_said if isinstance(next_said, str) else await next_said
        return text

    async def finish(self) -> None:
        runs: list[Run] = []
        for stage in self.stages:
            if runs:
                runs = await stage.push(runs)
            runs = runs + await stage.finish()
        self._out(runs)

    def _out(self, runs: list[Run]) -> None:
        for slot, n, text in runs:
            slot.parts.append(text)
            slot.left -= n
            if slot.left == 0:
                self._leaves(slot.piece, slot.parts[0] if len(slot.parts) == 1 else "".join(slot.parts))
                slot.chunk.waiting -= 1

    def _leaves(self, piece: Piece, text: str) -> None:
        """It is decided: tell the piece and the block."""
        if text != piece.text:
            piece.out = text
            self.block.changed = True
        self.block.released.append(text)
