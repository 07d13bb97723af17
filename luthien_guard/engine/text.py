"""What a text goes through: one lane a block, one stage a policy.

A lane moves *runs*: (slot, n, text), where the slot is the place in a chunk that the text came from and n counts the
characters of that place that the run settles. Stages may change the text of a run and keep runs back; when all
characters of a slot have come out of the last stage, the slot is settled and its chunk may leave. So an untouched
chunk leaves as it came, whatever was held and for how long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from luthien_guard.engine.exchange import Exchange, concerned
from luthien_guard.engine.plan import TextStagePlan
from luthien_guard.engine.verdicts import Intervention
from luthien_guard.events import Chunk, ContentChunk, ContentCompleted, content_chunk
from luthien_guard.records import EventType
from luthien_guard.wire.format import Block, Piece, PieceKind, ReadChunk

__all__ = ["Run", "Slot", "TextLane", "inspect_opaque"]

Edit = tuple[int, int, str]


class Slot:
    """The place of one delta: settled when `left` is 0."""

    __slots__ = ("chunk", "left", "parts", "piece")

    def __init__(self, chunk: ReadChunk, piece: Piece) -> None:
        self.chunk = chunk
        self.piece = piece
        self.left = len(piece.text)
        self.parts: list[str] = []


class Run(NamedTuple):
    slot: Slot
    n: int
    text: str


class Stop(Exception):
    """An intervention that ends the text: unwinds the stages to the lane's owner."""

    def __init__(self, intervention: Intervention) -> None:
        super().__init__(intervention.policy)
        self.intervention = intervention


class TextLane:
    """The chain of one block. `push` each delta, `finish` once; both raise Stop on a verdict."""

    __slots__ = ("_settle", "block", "busy", "inbox", "stages", "through", "waits")

    def __init__(
        self, exchange: Exchange, plans: Sequence[TextStagePlan], block: Block, settle: Callable[[Slot], None]
    ) -> None:
        self.block = block
        self.stages = [_stage(exchange, plan, block) for plan in plans]
        self.waits = any(plan.call.registered.policy.waits for plan in plans)
        self._settle = settle
        # nobody keeps anything back: texts go straight through, without runs
        self.through = not self.waits and all(type(stage) is _Stage for stage in self.stages)
        # for lanes with a policy that waits: what still has to go through, and whether somebody is at it
        self.inbox: list[Slot | None] = []
        self.busy = False

    async def push(self, slot: Slot) -> None:
        runs = [Run(slot, slot.left, slot.piece.text)]
        for stage in self.stages:
            runs = await stage.push(runs)
            if not runs:
                return
        self._out(runs)

    async def straight(self, piece: Piece) -> None:
        """`push` for a lane that is `through`."""
        text = piece.text
        for stage in self.stages:
            text = await stage.decide(text)
        if text != piece.text:
            piece.out = text
            self.block.changed = True
        self.block.released.append(text)

    async def finish(self) -> None:
        runs: list[Run] = []
        for stage in self.stages:
            if runs:
                runs = await stage.push(runs)
            runs = runs + await stage.finish()
        self._out(runs)

    async def work(self) -> None:
        """Take what waits in the inbox; for lanes whose policies ask others."""
        while self.inbox:
            slot = self.inbox.pop(0)
            await (self.finish() if slot is None else self.push(slot))
        self.busy = False

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


# -- stages ------------------------------------------------------------------------------------------------------------


def _stage(exchange: Exchange, plan: TextStagePlan, block: Block) -> _Stage:
    made: _Stage
    if plan.whole:
        made = _Whole(exchange, plan, block)
    elif plan.lookahead:
        made = _Window(exchange, plan, block)
    else:
        made = _Stage(exchange, plan, block)
    return _Shadow(made) if plan.shadow else made


class _Stage:
    """A policy that sees each delta and keeps nothing."""

    __slots__ = ("_noted", "block", "exchange", "plan")

    def __init__(self, exchange: Exchange, plan: TextStagePlan, block: Block) -> None:
        self.exchange = exchange
        self.plan = plan
        self.block = block
        self._noted = False

    def _note_change(self) -> None:
        """The record says once a block who changed it."""
        if not self._noted:
            self._noted = True
            name = self.plan.call.registered.name
            self.exchange.record(EventType.CHANGED, policy=name, **concerned(self._event("")))

    def _event(self, text: str, *, final: bool = False) -> ContentChunk:
        block = self.block
        return content_chunk(text, block.channel, block.choice, block.index, final, block.writable)

    async def push(self, runs: list[Run]) -> list[Run]:
        return [Run(run.slot, run.n, await self.decide(run.text)) if run.text else run for run in runs]

    async def finish(self) -> list[Run]:
        return []

    async def decide(self, text: str) -> str:
        """The text that goes on."""
        if not text:
            return text
        said = await self.exchange.call(self.plan.call, self._event(text))
        if said is None or (result := self._checked(said, text)) is None:
            return text
        changed = _text_of(result)
        if changed != text:
            self._note_change()
        return changed

    async def _ask(self, text: str, *, final: bool) -> ContentChunk | list[ContentChunk] | None:
        result = await self.exchange.call(self.plan.call, self._event(text, final=final))
        if result is None:
            return None
        return self._checked(result, text)

    def _checked(self, result: Any, text: str) -> ContentChunk | list[ContentChunk] | None:
        if (
            type(result) is ContentChunk
            and type(result.text) is str
            and not result.edits
            and self.block.writable
        ):
            return result
        if isinstance(result, Intervention):
            raise Stop(result)
        if not _is_content(result):
            return self._refuse(result, "a ContentChunk, a list of them or a verdict")
        if not _edits_fit(result):
            return self._refuse(result, "edits that ascend, keep apart and stay inside the text")
        if not self.block.writable and _text_of(result) != text:
            return self._refuse(result, "text as it was: this channel cannot be rewritten, only blocked")
        return result  # type: ignore[no-any-return]

    def _refuse(self, result: Any, wanted: str) -> None:
        failed = self.exchange.nonsense(self.plan.call, result, wanted, self._event(""))
        if failed is not None:
            raise Stop(failed)


class _Window(_Stage):
    """A policy with look-ahead: it sees what is still held together with what is new, and only what has `lookahead`
    more characters behind it is decided. An edit counts when it begins in the decided part: there, everything that
    it can depend on is in sight, so the result is the same however the text was cut."""

    __slots__ = ("held",)

    def __init__(self, exchange: Exchange, plan: TextStagePlan, block: Block) -> None:
        super().__init__(exchange, plan, block)
        self.held: list[Run] = []

    async def push(self, runs: list[Run]) -> list[Run]:
        self.held += runs
        return await self._slide(final=False)

    async def finish(self) -> list[Run]:
        return await self._slide(final=True) if self.held else []

    async def _slide(self, *, final: bool) -> list[Run]:
        window = "".join([run.text for run in self.held])
        result = await self._ask(window, final=final)
        decided = len(window) if final else max(len(window) - self.plan.lookahead, 0)
        if result is None:
            out, self.held = _split(self.held, decided)
            return out
        edits = _edits(result, window)
        edits = edits if final else [edit for edit in edits if edit[0] < decided]
        if edits:
            self._note_change()
        end = max([decided, *(edit[1] for edit in edits)])
        out, self.held = _cut(self.held, end, edits)
        return out


class _Whole(_Stage):
    """A policy that sees the whole block: implementing the hook holds it."""

    __slots__ = ("held",)

    def __init__(self, exchange: Exchange, plan: TextStagePlan, block: Block) -> None:
        super().__init__(exchange, plan, block)
        self.held: list[Run] = []

    async def push(self, runs: list[Run]) -> list[Run]:
        self.held += runs
        return []

    async def finish(self) -> list[Run]:
        held, self.held = self.held, []
        block = self.block
        if not held:
            return held
        whole = "".join([run.text for run in held])
        event = ContentCompleted(whole, block.channel, block.choice, block.index, block.writable)
        result = await self.exchange.call(self.plan.call, event)
        if result is None:
            return held
        if isinstance(result, Intervention):
            raise Stop(result)
        text = result if isinstance(result, str) else getattr(result, "text", None)
        if not isinstance(result, (ContentCompleted, str)) or not isinstance(text, str):
            self._refuse(result, "ContentCompleted, a str or a verdict")
        elif text != whole and not block.writable:
            self._refuse(result, "text as it was: this channel cannot be rewritten, only blocked")
        elif text != whole:
            self._note_change()
            return _cut(held, len(whole), [(0, len(whole), text)])[0]
        return held


class _Shadow(_Stage):
    """A stage that looks on: what comes in goes out at once, and a copy goes through the real stage for nothing."""

    __slots__ = ("inner",)

    def __init__(self, inner: _Stage) -> None:
        super().__init__(inner.exchange, inner.plan, inner.block)
        self.inner = inner

    async def push(self, runs: list[Run]) -> list[Run]:
        await self.inner.push(list(runs))
        return runs

    async def finish(self) -> list[Run]:
        await self.inner.finish()
        return []


# -- runs and edits ----------------------------------------------------------------------------------------------------


def _is_content(result: Any) -> bool:
    if isinstance(result, ContentChunk):
        return isinstance(result.text, str)
    return isinstance(result, list) and all(isinstance(each, ContentChunk) for each in result)


def _text_of(result: ContentChunk | list[ContentChunk]) -> str:
    if isinstance(result, list):
        return "".join(_text_of(each) for each in result)
    return _edited(result.text, result.edits) if result.edits else result.text


def _edited(text: str, edits: Sequence[Edit]) -> str:
    out: list[str] = []
    at = 0
    for start, end, new in edits:
        out += (text[at:start], new)
        at = end
    return "".join(out) + text[at:]


def _edits(result: ContentChunk | list[ContentChunk], window: str) -> list[Edit]:
    """The edits of a result; a text that was replaced whole is one edit from the first to the last difference."""
    if isinstance(result, ContentChunk) and result.edits and result.text == window:
        return list(result.edits)
    text = _text_of(result)
    if text == window:
        return []
    start = _common(text, window)
    end = _common(text[start:][::-1], window[start:][::-1])
    return [(start, len(window) - end, text[start : len(text) - end])]


def _edits_fit(result: ContentChunk | list[ContentChunk]) -> bool:
    if isinstance(result, ContentChunk) and not result.edits:
        return True
    for each in [result] if isinstance(result, ContentChunk) else result:
        at = 0
        for start, end, _ in each.edits:
            if not at <= start <= end <= len(each.text):
                return False
            at = end
    return True


def _common(a: str, b: str) -> int:
    limit = min(len(a), len(b))
    return next((at for at in range(limit) if a[at] != b[at]), limit)


def _cut(runs: list[Run], end: int, edits: Sequence[Edit]) -> tuple[list[Run], list[Run]]:
    """The runs up to character `end` with the edits put in, and the rest. The text of an edit goes to the run in
    which the edit begins; a run that is split settles its slot's characters with its last part."""
    if not edits:
        return _split(runs, end)
    out: list[Run] = []
    todo = list(edits)
    begin = 0
    for at, run in enumerate(runs):
        stop = begin + len(run.text)
        if begin >= end and (run.text or begin > end):
            return out, runs[at:]
        last = min(stop, end)
        text = _portion(run.text, begin, last, todo)
        if stop > end:
            out.append(Run(run.slot, 0, text))
            return out, [Run(run.slot, run.n, run.text[end - begin :]), *runs[at + 1 :]]
        out.append(Run(run.slot, run.n, text))
        begin = stop
    if out and todo:  # an insertion at the very end
        out[-1] = Run(out[-1].slot, out[-1].n, out[-1].text + "".join(new for _, _, new in todo))
    return out, []


def _split(runs: list[Run], end: int) -> tuple[list[Run], list[Run]]:
    """`_cut` without edits."""
    begin = 0
    for at, run in enumerate(runs):
        stop = begin + len(run.text)
        if begin >= end and (run.text or begin > end):
            return runs[:at], runs[at:]
        if stop > end:
            slot, n, text = run
            first = Run(slot, 0, text[: end - begin])
            return [*runs[:at], first], [Run(slot, n, text[end - begin :]), *runs[at + 1 :]]
        begin = stop
    return runs, []


def _portion(text: str, begin: int, end: int, todo: list[Edit]) -> str:
    """Characters begin..end of the window, `text` being those from `begin` on; spent edits leave `todo`, and one
    that reaches past `end` stays as a deletion of what is still to come."""
    out: list[str] = []
    at = begin
    while todo and todo[0][0] < end:
        start, stop, new = todo.pop(0)
        if start > at:
            out.append(text[at - begin : start - begin])
        out.append(new)
        at = max(at, min(stop, end))
        if stop > end:
            todo.insert(0, (end, stop, ""))
            break
    out.append(text[at - begin : end - begin])
    return "".join(out)


# -- strings that the format does not model ----------------------------------------------------------------------------

_OPAQUE_BLOCK: Final = Block("text", channel="other", writable=False)
_NO_CHUNK: Final = ReadChunk(Chunk("comment", b""), ())


async def inspect_opaque(
    exchange: Exchange, plans: Sequence[TextStagePlan], text: str, tails: dict[Any, str], place: Any
) -> None:
    """Show one string of the channel `other` to the text policies; raises Stop on a verdict.

    It cannot be held for a window that may never fill, so policies with look-ahead get a look back instead: the last
    characters that stood at the same place before it.
    """
    for plan in plans:
        seen = text
        if plan.lookahead:
            key = (plan.call.position, place)
            seen = tails.get(key, "") + text
            tails[key] = seen[-plan.lookahead :]
        stage = _stage(exchange, plan, _OPAQUE_BLOCK)
        piece = Piece(PieceKind.DELTA, block=_OPAQUE_BLOCK, text=seen)
        await stage.push([Run(Slot(_NO_CHUNK, piece), len(seen), seen)])
        await stage.finish()
