"""What a text goes through: one lane a block, one stage a policy.

A lane moves *runs*: (slot, n, text), where the slot is the place in a chunk that the text came from and n counts the
characters of that place that the run settles. Stages may change the text of a run and keep runs back; when all
characters of a slot have come out of the last stage, the slot is settled and its chunk may leave. So an untouched
chunk leaves as it came, whatever was held and for how long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.plan import TextStagePlan
from luthien_guard.engine.runs import Run, Slot
from luthien_guard.engine.stages import Stage, settled, stage_of
from luthien_guard.engine.suspension import Later
from luthien_guard.wire.format import Block, Piece

__all__ = ["Line", "TextLane", "settle"]


class Line:
    """What has to go through lanes whose policies ask others, one after the other; None for the end of a lane."""

    __slots__ = ("_todo", "busy")

    def __init__(self) -> None:
        self._todo: list[tuple[TextLane, Slot | None]] = []
        self.busy = False

    def put(self, lane: TextLane, slot: Slot | None) -> None:
        self._todo.append((lane, slot))

    async def work(self) -> None:
        while self._todo:
            lane, slot = self._todo.pop(0)
            await (lane.finish() if slot is None else lane.push(slot))
        self.busy = False


class TextLane:
    """The chain of one block. `push` each delta, `finish` once; both raise Stop on a verdict."""

    __slots__ = ("_settle", "block", "line", "stages", "through", "waits")

    def __init__(
        self,
        exchange: Exchange,
        plans: Sequence[TextStagePlan],
        block: Block,
        settle: Callable[[Slot], None],
        line: Line,
    ) -> None:
        self.block = block
        self.line = line  # where its texts wait, if it has a policy that waits
        self.stages = [stage_of(exchange, plan, block) for plan in plans]
        self.waits = any(plan.call.registered.policy.waits and not plan.shadow for plan in plans)
        self._settle = settle
        # nobody keeps anything back: texts go straight through, without runs
        self.through = not self.waits and all(type(stage) is Stage for stage in self.stages)

    async def push(self, slot: Slot) -> None:
        runs = [Run(slot, slot.left, slot.piece.text)]
        for stage in self.stages:
            runs = await stage.push(runs)
            if not runs:
                return
        self._out(runs)

    async def straight(self, piece: Piece) -> None:
        """`push` for a lane that is `through`."""
        text = await settled(self.decide(piece.text))
        if text != piece.text:
            piece.out = text
            self.block.changed = True
        self.block.released.append(text)

    def decide(self, text: str) -> str | Later[str]:
        """What goes on of a text in a lane that is `through`; `Later` only where a policy waits for somebody."""
        for at, stage in enumerate(self.stages, 1):
            said = stage.decide(text)
            if not isinstance(said, str):
                return Later(self._decide_later(said, at))
            text = said
        return text

    async def _decide_later(self, said: Later[str], at: int) -> str:
        text = await said
        for stage in self.stages[at:]:
            text = await settled(stage.decide(text))
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
                self._settle(slot)


def settle(slot: Slot) -> None:
    """The slot's text is decided: tell the piece and the block."""
    piece = slot.piece
    block = piece.block
    assert block is not None
    text = slot.parts[0] if len(slot.parts) == 1 else "".join(slot.parts)
    if text != piece.text:
        piece.out = text
        block.changed = True
    block.released.append(text)
    slot.chunk.waiting -= 1
