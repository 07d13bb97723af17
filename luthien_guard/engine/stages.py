"""One policy's part in the lane of a text: it sees each delta, a window over them, or the whole."""

from __future__ import annotations

from collections.abc import Awaitable
from types import CoroutineType
from typing import Any, Final

from luthien_guard.engine.asking import concerned
from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.plan import TextStagePlan
from luthien_guard.engine.runs import (
    Edit,
    Run,
    can_leave,
    cut,
    difference,
    edits_fit,
    edits_of,
    has_edits,
    is_content,
    read_before,
    text_of,
)
from luthien_guard.engine.verdicts import Intervention, Stop
from luthien_guard.events import ContentChunk, ContentCompleted, content_chunk
from luthien_guard.records import EventType
from luthien_guard.wire.format import Block

__all__ = ["Stage", "stage_of"]

_WORDS: Final = "text that UTF-8 can say"
#: Characters of a window beyond which nobody waits any longer for a place at which a changed text can be cut.
_PATIENCE: Final = 4096


def stage_of(exchange: Exchange, plan: TextStagePlan, block: Block) -> Stage:
    made: Stage
    if plan.whole:
        made = _Whole(exchange, plan, block)
    elif plan.lookahead:
        made = _Window(exchange, plan, block)
    else:
        made = Stage(exchange, plan, block)
    return _Shadow(made) if plan.shadow else made


class Stage:
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
            self.exchange.changed_by = self.plan.call
            name = self.plan.call.registered.name
            self.exchange.record(EventType.CHANGED, policy=name, **concerned(self._event("")))

    def _event(self, text: str, *, final: bool = False) -> ContentChunk:
        block = self.block
        return content_chunk(text, block.channel, block.choice, block.index, final, block.writable)

    async def push(self, runs: list[Run]) -> list[Run]:
        gone_on: list[Run] = []
        for run in runs:
            said = self.decide(run.text)
            text = said if isinstance(said, str) else await said
            gone_on.append(Run(run.slot, run.n, text))
        return gone_on

    async def finish(self) -> list[Run]:
        return []

    def decide(self, text: str) -> str | Awaitable[str]:
        """The text that goes on; to be awaited only where the policy waits for somebody."""
        if not text:
            return text
        block = self.block
        event = content_chunk(text, block.channel, block.choice, block.index, False, block.writable)
        said = self.exchange.ask(self.plan.call, event)
        if said is None:
            return text
        return self._decide_later(said, text) if type(said) is CoroutineType else self._decided(said, text)

    async def _decide_later(self, said: Awaitable[Any], text: str) -> str:
        return self._decided(await said, text)

    def _decided(self, said: Any, text: str) -> str:
        if said is None or (result := self._checked(said, text)) is None:
            return text
        changed = text_of(result)
        if changed != text:
            if not can_leave(changed):
                self._refuse(result, _WORDS)
                return text
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
            and result.channel == self.block.channel
        ):
            return result
        if isinstance(result, Intervention):
            raise Stop(result)
        if not is_content(result):
            return self._refuse(result, "a ContentChunk, a list of them or a verdict")
        if any(
            each.channel != self.block.channel for each in (result if isinstance(result, list) else [result])
        ):
            return self._refuse(result, self._of_the_channel)
        if not edits_fit(result):
            return self._refuse(result, "edits that ascend, keep apart and stay inside the text")
        if not self.block.writable and text_of(result) != text:
            return self._refuse(result, "text as it was: this channel cannot be rewritten, only blocked")
        return result  # type: ignore[no-any-return]

    @property
    def _of_the_channel(self) -> str:
        return f"text of the channel {self.block.channel!r}, from which it came: use .replace(text=...)"

    def _refuse(self, result: Any, wanted: str) -> None:
        failed = self.exchange.nonsense(self.plan.call, result, wanted, self._event(""))
        if failed is not None:
            raise Stop(failed)


class _Window(Stage):
    """A policy with look-ahead: it sees what is still held together with what is new, and only what has `lookahead`
    more characters behind it is decided. An edit counts when it begins in the decided part: there, everything that
    it can depend on is in sight, so the result is the same however the text was cut.

    In front of a text that clients read on from another one stands the end of that, as it left: what a policy forbids is
    found across their border, and of what it changes there this text's part leaves changed."""

    __slots__ = ("_before", "_begun", "held")

    def __init__(self, exchange: Exchange, plan: TextStagePlan, block: Block) -> None:
        super().__init__(exchange, plan, block)
        self.held: list[Run] = []
        self._begun = False  # something of the block has gone on
        self._before: str | None = None  # what is read in front of it; None until that is asked for

    async def push(self, runs: list[Run]) -> list[Run]:
        self.held += runs
        return await self._slide(final=False)

    async def finish(self) -> list[Run]:
        return await self._slide(final=True) if self.held else []

    async def _slide(self, *, final: bool) -> list[Run]:
        held = "".join([run.text for run in self.held])
        if self._before is None:
            self._before = read_before(self.block, self.plan.lookahead)
        before = "" if self._begun else self._before
        window = before + held
        result = await self._ask(window, final=final)
        decided = len(held) if final else max(len(held) - self.plan.lookahead, 0)
        edits: list[Edit] = []
        if result is not None:
            edits = await self._edits(result, before, held)
            if edits and not can_leave(text_of(result)):
                self._refuse(result, _WORDS)
                edits = []
            if edits and not final:
                edits, decided = self._due(result, window, len(held), edits, decided)
        end = decided
        if edits:
            self._note_change()
            end = max(decided, *(edit[1] for edit in edits))
        out, self.held = cut(self.held, end, edits)
        self._begun = self._begun or end > 0
        return out

    async def _edits(self, result: ContentChunk | list[ContentChunk], before: str, held: str) -> list[Edit]:
        """The edits of a result, as far as they are in what is held."""
        edits, at = edits_of(result, before + held), len(before)
        if edits and before and not has_edits(result, before + held):
            # What the policy makes of the text before alone is no change of this one.
            alone = await self._ask(before, final=False)
            changed = before if alone is None else text_of(alone)
            edits, at = difference(text_of(result), changed + held), len(changed)
        return [
            (max(start - at, 0), end - at, new) for start, end, new in edits if end > at or start == end == at
        ]

    def _due(
        self,
        result: ContentChunk | list[ContentChunk],
        window: str,
        length: int,
        edits: list[Edit],
        decided: int,
    ) -> tuple[list[Edit], int]:
        """The edits that count now, and up to where what is held, of this length, is decided."""
        if not has_edits(result, window):
            return self._due_of_text(result, length, edits[0], decided)
        # Something has to be left for the last look, which may put something in.
        if edits[-1][1] == length:
            decided = min(decided, edits[-1][0])
        # What is put in behind a word must stay with it until it is due: alone, it is nowhere to be seen.
        behind = [start for start, end, _ in edits if start == end > decided]
        decided = max(min([decided, *(at - self.plan.lookahead for at in behind)]), 0)
        due: list[Edit] = []
        reach = decided
        for edit in edits:
            start, end, _ = edit
            if end == 0 and self._begun:
                continue  # put in already, when what stands before it left
            if start < reach or start == end == reach > 0:
                due.append(edit)
                reach = max(reach, end)
        return due, decided

    def _due_of_text(self, result: Any, length: int, change: Edit, decided: int) -> tuple[list[Edit], int]:
        """A policy that gives another text does not say which part of it stands for what. What it changed may begin as
        much as the look-ahead before the first difference, and end as much behind the last one: only beyond that the text
        can be cut."""
        start, end, _ = change
        look = self.plan.lookahead
        if end + look <= decided:
            return [change], decided
        if length > _PATIENCE + 16 * look:
            self._refuse(result, "chunk.edit(...): so much text that is changed everywhere cannot be held")
            return [], decided
        return [], max(min(decided, start - look), 0)


class _Whole(Stage):
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
            self._refuse(result, "a ContentCompleted, a str or a verdict")
        elif getattr(result, "channel", block.channel) != block.channel:
            self._refuse(result, self._of_the_channel)
        elif text != whole and not block.writable:
            self._refuse(result, "text as it was: this channel cannot be rewritten, only blocked")
        elif text != whole and not can_leave(text):
            self._refuse(result, _WORDS)
        elif text != whole:
            self._note_change()
            return cut(held, len(whole), [(0, len(whole), text)])[0]
        return held


class _Shadow(Stage):
    """A stage that looks on: what comes in goes out at once, and a copy goes through the real stage for nothing."""

    __slots__ = ("inner",)

    def __init__(self, inner: Stage) -> None:
        super().__init__(inner.exchange, inner.plan, inner.block)
        self.inner = inner

    async def push(self, runs: list[Run]) -> list[Run]:
        await self.inner.push(list(runs))
        return runs

    async def finish(self) -> list[Run]:
        await self.inner.finish()
        return []
