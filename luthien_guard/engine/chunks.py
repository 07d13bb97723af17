"""The hooks on wire units: before and after their events, and for what nobody could read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.flow import Flow
from luthien_guard.engine.transcript import Transcript
from luthien_guard.engine.verdicts import Intervention, Stop
from luthien_guard.errors import IllegalOutput, told
from luthien_guard.events import Chunk, UnknownChunk
from luthien_guard.hooks import HookCall
from luthien_guard.policy import Abort
from luthien_guard.records import EventType
from luthien_guard.wire.alike import UnparsedChunk
from luthien_guard.wire.chunks import BodyDecoder, StreamDecoder
from luthien_guard.wire.format import ReadChunk
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.sse import canonical

__all__ = ["ChunkHooks"]

_REASONS: Final = 64  # that are told apart
_KINDS: Final = 64  # of changed chunks: an upstream may name a new one in every event


class ChunkHooks:
    """Runs `on_chunk_started`, `on_chunk_completed` and `on_unknown_chunk` for one response."""

    __slots__ = ("_makers", "_noted", "_told", "after", "before", "came", "exchange", "made_by")

    def __init__(self, exchange: Exchange, *, stream: bool) -> None:
        self.exchange = exchange
        self.before = exchange.plan.calls["on_chunk_started"]
        self.after = exchange.plan.calls["on_chunk_completed"]
        self.made_by: HookCall | None = None  # the last that put a chunk of its own in the place of another
        #: The response as upstream sent it: where a policy may change its chunks, the engine never sees that.
        self.came = Transcript(exchange.reader(stream=stream)) if self.before else None
        self._makers: dict[int, HookCall] = {}  # by id() of the chunks that the last chain made
        self._told: set[tuple[int, str]] = set()  # (policy, kind of chunk) of changes that are on record
        self._noted: dict[str, int] = {}  # chunks that passed unread, by reason

    async def started(self, chunk: Chunk, flow: Flow | None = None, text: str = "") -> list[Chunk]:
        """The chunks that go on instead of this one. `flow`: it is a frame of it, with this text."""
        if self.came is not None:
            self.came.follow(chunk, flow, text)
        return await self._chain(self.before, chunk)

    async def completed(self, chunk: Chunk) -> list[Chunk]:
        """The chunks that leave instead of this one. Only the grammar still looks at what a policy makes here."""
        return await self._chain(self.after, chunk)

    async def _chain(self, calls: tuple[HookCall, ...], chunk: Chunk) -> list[Chunk]:
        chunks = [chunk]
        self._makers.clear()
        for call in calls:
            after: list[Chunk] = []
            for each in chunks:
                after += await self._one(call, each)
            chunks = after
        return chunks

    async def _one(self, call: HookCall, chunk: Chunk) -> list[Chunk]:
        shown = _shown(chunk)
        result = await self.exchange.call(call, shown)
        if isinstance(result, Intervention):
            raise Stop(result)
        try:
            if result is None:
                if not (type(shown) is UnparsedChunk and shown.changed and call.enforces):
                    return [chunk]
                result = shown  # it has changed in place what it was shown
            made = _remade([result] if isinstance(result, Chunk) else result, chunk)
        except Exception as error:  # noqa: BLE001 -- a policy may put anything there
            wanted = f"a Chunk, a list of them or Abort ({told(error)})"
            if (failed := self.exchange.nonsense(call, result, wanted, chunk)) is not None:
                raise Stop(failed) from None
            return [chunk]
        if len(made) != 1 or made[0] is not chunk:
            self.made_by = self.exchange.changed_by = call
            self._makers.update((id(each), call) for each in made if each is not chunk)
            self._changed(call, chunk)
        return made

    def maker_of(self, chunk: Chunk) -> HookCall | None:
        """Who made it, of the chunks that were asked about last."""
        return self._makers.get(id(chunk))

    def _changed(self, call: HookCall, chunk: Chunk) -> None:
        """On record once for each kind of chunk: there may be thousands, and each such record is waited for. Those beyond
        the bound are one kind, "" on record."""
        kind = (chunk.event or chunk.kind)[:200]
        if len(self._told) >= _KINDS and (call.position, kind) not in self._told:
            kind = ""
        if (call.position, kind) not in self._told:
            self._told.add((call.position, kind))
            self.exchange.record(EventType.CHANGED, policy=call.registered.name, chunk=kind)

    async def lets_pass(self, chunk: Chunk, *, inspectable: bool, reason: str = "") -> bool:
        """Law 3 for a chunk of unknown kind. Raises Stop when it is blocked; False drops it."""
        exchange = self.exchange
        why = reason or chunk.reason or "unknown"
        waived = False  # somebody takes it upon himself; those after him may object all the same
        for call in exchange.plan.calls["on_unknown_chunk"]:
            event = UnknownChunk(_shown(chunk), why, inspectable)
            result = await exchange.call(call, event)
            if isinstance(result, list) and not result:
                self._changed(call, chunk)
                return False
            if result is True:
                waived = True
            elif result is not None and not isinstance(result, Intervention):
                result = exchange.nonsense(call, result, "True, [] or Abort", event)
            if isinstance(result, Intervention):
                raise Stop(result)
        if waived:
            return True
        why = exchange.record.redacted(why)[:200]
        self._note(why, inspectable)
        strict = exchange.services.unknown == "block"
        if exchange.plan.enforces and (strict or not inspectable):
            reason = f"a chunk that cannot be accepted: {why}"
            exchange.record(
                EventType.VERDICT, policy="unknown-chunk", verdict="abort", reason=reason, enforced=True
            )
            raise Stop(Intervention("unknown-chunk", Abort(reason)))
        return True

    def _note(self, why: str, inspectable: bool) -> None:
        """On record for the first, the second, the fourth, the eighth ... of its kind: one frame that is too large comes
        in thousands of parts."""
        kind = why if why in self._noted or len(self._noted) < _REASONS else ""
        times = self._noted[kind] = self._noted.get(kind, 0) + 1
        if times.bit_count() == 1:
            self.exchange.record(EventType.RESPONSE_NOTED, unknown=why, inspectable=inspectable, times=times)

    def illegal(self, error: IllegalOutput, chunks: Iterable[ReadChunk]) -> Intervention:
        """Name the policy that made what the grammar forbids: the one that made one of these chunks, else the last that made
        or changed something."""
        makers: list[HookCall] = [read.made_by for read in chunks if read.made_by is not None]
        call = makers[0] if makers else self.made_by or self.exchange.changed_by
        name = call.registered.name if call is not None else (error.policy or "unknown")
        self.exchange.record(
            EventType.POLICY_ERROR, policy=name, hook=call.hook if call else "", error=str(error)
        )
        return Intervention(name, Abort(f"illegal output: {error}"), failure=True)


def _shown(chunk: Chunk) -> Chunk:
    """What a policy gets of it: JSON of its own, where there is any."""
    if type(chunk) is UnparsedChunk:
        return chunk if chunk.unread else UnparsedChunk.of(_as_it_came(chunk))
    return chunk if chunk.data is None else UnparsedChunk.of(chunk)


def _as_it_came(chunk: Chunk) -> Chunk:
    if type(chunk) is not UnparsedChunk:
        return chunk
    return Chunk(chunk.kind, chunk.raw, chunk.came, chunk.event, chunk.ignored, chunk.reason)


def _remade(made: list[Chunk], original: Chunk) -> list[Chunk]:
    """The chunks that a policy put in the place of one, as everybody will read them. Raises what is wrong with them."""
    if not isinstance(made, list) or not all(isinstance(each, Chunk) for each in made):
        raise TypeError(f"not {type(made).__name__}")
    if original.kind == "body" and len(made) != 1:
        raise ValueError("a body stays one body")
    out: list[Chunk] = []
    came = _as_it_came(original)
    for each in made:
        chunk = original if _is_same(each, came) else _written(each, came)
        # the same one twice: only the first leaves as it came
        out.append(_as_it_came(chunk).replace() if any(chunk is one for one in out) else chunk)
    return out


def _is_same(made: Chunk, came: Chunk) -> bool:
    return (made.raw, made.kind, made.event) == (came.raw, came.kind, came.event) and made.data == came.data


def _written(made: Chunk, original: Chunk) -> Chunk:
    """It is written anew from its data, unless only its bytes were changed; and then read, for its data may not be what
    its bytes say."""
    raw = made.raw
    if made.data is not None and (raw == original.raw or made.data != original.data):
        text = dumps(made.data).encode()
        raw = text if made.kind == "body" else canonical(text, made.event)
    whole = original.kind == "body"
    decoder = BodyDecoder(max_bytes=len(raw)) if whole else StreamDecoder(max_event_bytes=len(raw))
    read = [*decoder.feed(raw), *decoder.close()]
    if len(read) != 1 or read[0].kind != made.kind or made.kind == "unknown":
        raise ValueError("its bytes are not one chunk of its kind")
    if read[0].event != made.event:
        raise ValueError("its event has no name that can be written")
    return read[0]
