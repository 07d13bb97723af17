"""The hooks on wire units: before and after their events, and for what nobody could read."""

from __future__ import annotations

import json
from typing import Any

from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.text import Stop
from luthien_guard.engine.verdicts import Intervention
from luthien_guard.errors import IllegalOutput
from luthien_guard.events import Chunk, UnknownChunk
from luthien_guard.policy import Abort
from luthien_guard.records import EventType
from luthien_guard.registry import HookCall
from luthien_guard.wire.format import ReadChunk
from luthien_guard.wire.sse import canonical

__all__ = ["ChunkHooks"]


class ChunkHooks:
    """Runs `on_chunk_started`, `on_chunk_completed` and `on_unknown_chunk` for one response."""

    __slots__ = ("after", "before", "exchange", "made_by")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.before = exchange.plan.calls["on_chunk_started"]
        self.after = exchange.plan.calls["on_chunk_completed"]
        self.made_by: HookCall | None = None  # the last that put a chunk of its own in the place of another

    async def started(self, chunk: Chunk) -> list[Chunk]:
        """The chunks that go on instead of this one."""
        return await self._chain(self.before, chunk)

    async def completed(self, ready: list[ReadChunk]) -> list[ReadChunk]:
        """The same for chunks that are about to leave. What a policy makes here leaves as it made it: only the
        grammar still looks at it."""
        out: list[ReadChunk] = []
        for read in ready:
            if not read.chunk.raw:
                out.append(read)
                continue
            chunks = await self._chain(self.after, read.chunk)
            if chunks == [read.chunk]:
                out.append(read)
            else:
                out += [ReadChunk(chunk, ()) for chunk in chunks]
        return out

    async def _chain(self, calls: tuple[HookCall, ...], chunk: Chunk) -> list[Chunk]:
        chunks = [chunk]
        for call in calls:
            after: list[Chunk] = []
            for each in chunks:
                after += await self._one(call, each)
            chunks = after
        return chunks

    async def _one(self, call: HookCall, chunk: Chunk) -> list[Chunk]:
        result = await self.exchange.call(call, chunk)
        if result is None:
            return [chunk]
        if isinstance(result, Intervention):
            raise Stop(result)
        made = [result] if isinstance(result, Chunk) else result
        if isinstance(made, list) and all(isinstance(each, Chunk) for each in made):
            if made != [chunk]:
                self.made_by = call
                self.exchange.record(
                    EventType.CHANGED, policy=call.registered.name, chunk=chunk.event or chunk.kind
                )
            return [each if each is chunk else _encoded(each, chunk) for each in made]
        failed = self.exchange.nonsense(call, result, "a Chunk, a list of them or Abort")
        if failed is not None:
            raise Stop(failed)
        return [chunk]

    async def lets_pass(self, chunk: Chunk, *, inspectable: bool, reason: str = "") -> bool:
        """Law 3 for a chunk of unknown kind. Raises Stop when it is blocked; False drops it."""
        exchange = self.exchange
        why = reason or chunk.reason or "unknown"
        for call in exchange.plan.calls["on_unknown_chunk"]:
            result = await exchange.call(call, UnknownChunk(chunk, why, inspectable))
            if isinstance(result, Intervention):
                raise Stop(result)
            if result == [] and result is not None:
                return False
            if result is True:
                return True
        exchange.record(EventType.RESPONSE_NOTED, unknown=why[:200], inspectable=inspectable)
        strict = exchange.services.unknown == "block"
        if exchange.plan.enforces and (strict or not inspectable):
            raise Stop(Intervention("unknown-chunk", Abort(f"a chunk that cannot be accepted: {why[:200]}")))
        return True

    def illegal(self, error: IllegalOutput, ready: list[ReadChunk]) -> Intervention:
        """Name the policy that made what the grammar forbids: the one that made a chunk, else the last that changed
        something."""
        call = self.made_by
        name = call.registered.name if call is not None else (error.policy or "unknown")
        self.exchange.record(
            EventType.POLICY_ERROR, policy=name, hook=call.hook if call else "", error=str(error)
        )
        return Intervention(name, Abort(f"illegal output: {error}"), failure=True)


def _encoded(made: Chunk, original: Chunk) -> Chunk:
    """A chunk that a policy made, with the bytes that say what its data says."""
    if made.data is None or (made.raw != original.raw and made.data is original.data):
        return made
    text = json.dumps(made.data, ensure_ascii=False, separators=(",", ":"))
    raw: Any = text.encode() if made.kind == "body" else canonical(text.encode(), made.event)
    return made.replace(raw=raw)
