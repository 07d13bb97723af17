"""What a tool call goes through: fragments as they stream, then the whole call, policy by policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from luthien_guard.engine.asking import concerned
from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.runs import can_leave
from luthien_guard.engine.verdicts import Intervention, message_for_call
from luthien_guard.events import ToolCall, ToolCallChunk
from luthien_guard.hooks import HookCall
from luthien_guard.policy import Abort, Block
from luthien_guard.records import EventType
from luthien_guard.wire.format import Block as WireBlock
from luthien_guard.wire.format import Piece, ReadChunk

__all__ = ["CallLane"]


class CallLane:
    """The chain of one tool call. While `held`, each of its pieces keeps its chunk waiting."""

    __slots__ = ("_changed_fragments", "_told", "block", "exchange", "fragments", "held", "pieces")

    def __init__(self, exchange: Exchange, block: WireBlock) -> None:
        self.exchange = exchange
        self.block = block
        self.held = exchange.plan.holds_calls
        self.pieces: list[tuple[ReadChunk, Piece]] = []
        self._changed_fragments = False
        self._told: set[int] = set()  # positions of the policies whose change of fragments is on record
        self.fragments = [block.prefix] if block.prefix else []

    def hold(self, chunk: ReadChunk, piece: Piece) -> None:
        chunk.waiting += 1
        self.pieces.append((chunk, piece))

    async def fragment(self, piece: Piece) -> Intervention | None:
        """Run the fragment hooks; the changed text is the piece's `out`."""
        text = piece.text
        for call in self.exchange.plan.call_fragments:
            chunk = self._chunk(text)
            result = await self.exchange.call(call, chunk)
            if isinstance(result, Intervention):
                return result
            changed = _fragment_text(result)
            if result is not None and changed is None:
                wanted = "a ToolCallChunk, a list of them or a verdict"
                failed = self.exchange.nonsense(call, result, wanted, chunk)
                if failed is not None:
                    return failed
            if changed is not None and changed != text:
                self._changed_fragment(call, chunk)
                text = changed
        if text != piece.text:
            piece.out = text
            self.block.changed = self._changed_fragments = True
        self.fragments.append(text)
        return None

    def _changed_fragment(self, hook: HookCall, chunk: ToolCallChunk) -> None:
        """On record once, however many fragments follow."""
        if hook.position not in self._told:
            self._told.add(hook.position)
            self._changed(hook, chunk, to="call")

    def _chunk(self, text: str) -> ToolCallChunk:
        block = self.block
        return ToolCallChunk(text, block.id, block.name, block.tool_kind, block.choice, block.index)

    async def complete(self, known_tools: Iterable[str]) -> Intervention | None:
        """Run the hooks on the whole call and write the decision into block and pieces. Returns only what ends the
        whole answer; a blocked call is an explanation in its place."""
        block = self.block
        call = ToolCall(
            block.id,
            block.name,
            "".join(self.fragments) or self.exchange.format.no_arguments,
            block.tool_kind,
            block.choice,
            block.index,
            complete=block.closed,
        )
        original = call
        for hook in self.exchange.plan.call_completed:
            result = await self._ask(hook, call)
            if result is None:
                continue
            if isinstance(result, ToolCall):
                self._note_change(hook, call, result)
                call = result
            elif isinstance(result, str):
                self._changed(hook, call, to="text")
                return self._remove(result)
            elif isinstance(result, Intervention):
                return self._intervene(result, call, known_tools)
        self._keep(original, call)
        return None

    async def _ask(self, hook: HookCall, call: ToolCall) -> Any:
        """The hook's result, from the memory of blocked calls where the policy allows that."""
        if hook.members:
            return await self.exchange.together(hook, lambda each: self._ask(each, call), call)
        policy = hook.registered.policy
        seconds = getattr(policy, "remember", 0.0)
        cache, clock = self.exchange.services.cache, self.exchange.services.clock
        if seconds and (known := cache.get(policy, call, clock())) is not None:
            return self.exchange.verdict(hook, known, call)
        result = await self.exchange.call(hook, call)
        if isinstance(result, Intervention):
            verdict = result.verdict
            if seconds and isinstance(verdict, (Block, Abort)) and not result.failure:
                cache.put(policy, call, verdict, clock() + seconds)
            return result
        if result is None or (isinstance(result, str) and can_leave(result)):
            return result
        if not (isinstance(result, ToolCall) and _is_call(result)):
            return self.exchange.nonsense(hook, result, "a ToolCall, a str or a verdict", call)
        if not self._can_be_said(call, result):
            return self.exchange.nonsense(
                hook, result, "arguments that are a JSON object, as they were", call
            )
        return result

    def _can_be_said(self, before: ToolCall, after: ToolCall) -> bool:
        """Where a format wants an object as arguments, what was one has to stay one."""
        if not self.exchange.format.no_arguments or after.arguments == before.arguments:
            return True
        return isinstance(after.parsed, dict) or not isinstance(before.parsed, dict)

    def _note_change(self, hook: HookCall, before: ToolCall, after: ToolCall) -> None:
        if (before.name, before.arguments) != (after.name, after.arguments):
            self._changed(hook, before, to="call")

    def _changed(self, hook: HookCall, call: ToolCall | ToolCallChunk, *, to: str) -> None:
        """`to`: what became of it, still a "call" or a "text" in its place."""
        self.exchange.changed_by = hook
        self.exchange.record(EventType.CHANGED, policy=hook.registered.name, to=to, **concerned(call))

    def _intervene(
        self, intervention: Intervention, call: ToolCall, known_tools: Iterable[str]
    ) -> Intervention | None:
        verdict = intervention.verdict
        if isinstance(verdict, Block) or intervention.failure:
            self.exchange.intervened(intervention)
            return self._remove(message_for_call(intervention, call, known_tools))
        return intervention

    def _remove(self, replacement: str | None) -> None:
        self.block.removed = True
        self.block.replacement = replacement

    def _keep(self, original: ToolCall, call: ToolCall) -> None:
        block = self.block
        block.released = [call.arguments]
        if call.name != original.name:
            block.new_name, block.changed = call.name, True
        # where arguments have to be an object, changed ones are written whole, and looked at
        whole = self._changed_fragments and self.exchange.format.no_arguments
        if call.arguments == original.arguments and not whole:
            return
        block.changed = True
        deltas = [piece for _, piece in self.pieces if piece.kind.value == "delta"]
        for at, piece in enumerate(deltas):
            piece.out = call.arguments if at == 0 else ""

    def drop(self) -> None:
        """The stream ended inside the call: no part of it may leave."""
        self._remove(None)

    def let_go(self) -> None:
        """Decided: the chunks need not wait for this call any more."""
        for chunk, _ in self.pieces:
            chunk.waiting -= 1
        self.pieces = []


def _is_call(call: ToolCall) -> bool:
    words: tuple[Any, ...] = (call.arguments, call.name)
    return all(isinstance(each, str) and can_leave(each) for each in words)


def _fragment_text(result: Any) -> str | None:
    chunks = result if isinstance(result, list) else [result]
    if not all(isinstance(each, ToolCallChunk) and isinstance(each.text, str) for each in chunks):
        return None
    text = "".join(each.text for each in chunks)
    return text if can_leave(text) else None
