"""One response under decision, in this process: bytes to chunks, chunks to the engine, decisions back to bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Final

from luthien_guard.control_plane.answers import UNRECORDED, error_answer, refusal, unrecorded
from luthien_guard.control_plane.jobs import Jobs
from luthien_guard.control_plane.service import Answer, Release, StreamingContext
from luthien_guard.engine.exchange import Exchange
from luthien_guard.engine.flow import Flow
from luthien_guard.engine.response import Response
from luthien_guard.engine.state import Item
from luthien_guard.engine.verdicts import Intervention, message_for
from luthien_guard.events import Chunk
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.hooks import HookCall
from luthien_guard.policy import Abort, Retry
from luthien_guard.records import EventType
from luthien_guard.wire.chunks import BodyDecoder, StreamDecoder

__all__ = ["LocalStream"]

_OUTCOMES: Final = {
    "timeout": OutcomeStatus.TIMEOUT,
    "idle_timeout": OutcomeStatus.TIMEOUT,
    "total_timeout": OutcomeStatus.TIMEOUT,
    "cancelled": OutcomeStatus.CANCELLED,
    "internal_error": OutcomeStatus.POLICY_ERROR,
}


class LocalStream:
    """Implements `GuardedStream` for one attempt."""

    __slots__ = (
        "_begun",
        "_decoder",
        "_exchange",
        "_jobs",
        "_late",
        "_response",
        "_room",
        "_sent",
        "_state",
        "_status",
        "_told",
    )

    def __init__(self, exchange: Exchange, context: StreamingContext) -> None:
        limits = exchange.services.limits
        self._exchange = exchange
        self._status = context.status
        self._response = exchange.response = Response(exchange, status=context.status, stream=context.stream)
        self._state = self._response.state
        self._decoder: StreamDecoder | BodyDecoder = (
            StreamDecoder(max_event_bytes=limits.max_event_bytes)
            if context.stream
            else BodyDecoder(max_bytes=limits.max_response_bytes)
        )
        #: Bytes that it may still have; a body's decoder has a limit of its own.
        self._room: float = limits.max_stream_bytes if context.stream else float("inf")
        #: What leaves of the piece at hand: whoever ends the answer in its middle sends this first.
        self._begun: list[Item] = []
        # The client has heard something, in this attempt or before it.
        self._sent = self._state.left = exchange.kept_alive
        self._told = False
        self._jobs = Jobs(exchange, self._response)
        self._late: HookCall | None = None  # the shell cancels what it found overdue before it calls `fail`

    async def feed(self, data: bytes, *, last: bool = False) -> Release:
        state, flows = self._state, self._response.flows
        self._room -= len(data)
        if self._room < 0:
            return await self._too_long()
        flow = state.flow
        # A frame of the flow, or a verdict on one is there.
        if flow is not None and not last and ((text := flow.pattern.text_of(data)) or not data):
            items = await flows.more(flow, data, text) if text else flows.freed()
            exchange = self._exchange
            if flows.anew:
                await self._response.again()
            if items is None or exchange.record.owes or exchange.aside is not None:
                self._begun += items or ()
                return await self._release(drain=items is None)
            return Release(items, len(state.jobs), held=state.held_bytes, alike=flow.alike)
        if state.stream and 0 <= data.find(b"\n\n") < len(data) - 2:  # a frame ends before the piece does
            data = await self._frames(data)
        if data:
            await self._take(self._decoder.feed(data))
        if last:
            if tail := self._decoder.close():
                await self._take(tail)
            await self._finish()
        release = await self._release()
        # where a frame has begun, what comes next is the rest of it, whatever it looks like
        if not last and self._decoder.idle:
            flows.begin()
        return release

    def feed_text(self, text: str) -> str | Coroutine[Any, Any, str | Release]:
        exchange, flow = self._exchange, self._state.flow
        assert flow is not None
        self._room -= flow.pattern.size + (len(text) if text.isascii() else len(text.encode()))
        if self._room < 0:
            return self._too_long()
        left = self._response.flows.left_of(flow, text)
        if type(left) is str and not exchange.record.owes and exchange.aside is None:
            return left
        return self._left_later(flow, text, left)

    async def _left_later(
        self, flow: Flow, text: str, said: str | Awaitable[str | None] | None
    ) -> str | Release:
        exchange, number = self._exchange, self._state.count - 1
        left = said if said is None or isinstance(said, str) else await said
        if left is None:
            return await self._release()
        if exchange.record.owes or exchange.aside is not None:
            self._begun.append((flow.pattern.frame(left), number if left is text else None))
            return await self._release(drain=False)
        return left

    async def _too_long(self) -> Release:
        """Its texts are held until the end, by readers and for the record: no upstream may go on for ever."""
        if not self._state.done:
            self._state.abort("more bytes than the limit allows")
        return await self._release()

    async def _frames(self, data: bytes) -> bytes:
        """Several frames in one piece: all but the last, as if each had come alone. What is left of the piece."""
        frames = data.split(b"\n\n")
        response, state, rest, at, items = self._response, self._state, frames.pop(), 0, self._begun
        while at < len(frames):
            flow, done = state.flow, at
            if flow is not None:
                at = await response.flows.run(flow, frames, at, items)
                if response.flows.anew:
                    await response.again()
            if at == done:
                if at == len(frames) - 1 and not rest:
                    break  # the last one: whoever called sees to it
                await self._take(self._decoder.feed(frames[at] + b"\n\n"))
                at += 1
            if state.done:
                return b""
            if state.flow is None or state.queue:
                items += await response.drain()
            if state.flow is None and self._decoder.idle:
                response.flows.begin()
        return b"\n\n".join([*frames[at:], rest])

    async def _finish(self) -> None:
        response, state = self._response, self._state
        if state.stream and state.queue:
            self._begun += await response.drain()
        await response.finish()

    async def _take(self, chunks: Sequence[Chunk]) -> None:
        """What leaves before the last of the chunks is looked at: a verdict on it takes nothing back, as it would not
        if each had come alone."""
        response, state = self._response, self._state
        state.flow = None
        for chunk in chunks:
            if state.queue:
                self._begun += await response.drain()
            await response.take(chunk)

    async def settle(self) -> Release:
        if not self._state.jobs and not self._jobs.aside:
            return Release()
        await self._jobs.run()
        return await self._release()

    def decide_pending(self) -> Awaitable[None]:
        return self._jobs.run()

    async def fail(self, status: int, code: str, message: str) -> Release:
        state, exchange = self._state, self._exchange
        if state.done:
            return Release(done=True)
        overdue = exchange.overdue() or self._late
        if code == "policy_timeout" and overdue is not None:
            reason = f"{overdue.hook} ran past its deadline"
            exchange.record(
                EventType.POLICY_ERROR, policy=overdue.registered.name, hook=overdue.hook, error=reason
            )
            state.intervene(Intervention(overdue.registered.name, Abort(reason), failure=True))
            return await self._release()
        state.done, state.flow = True, None
        exchange.decide_outcome(_OUTCOMES.get(code, OutcomeStatus.UPSTREAM_ERROR), reason=message)
        await exchange.fail(message, status=status, code=code)
        if not state.left:
            return Release(done=True, answer=error_answer(exchange.format, status, code, message))
        release = await self._settled(Release())
        if release.done:  # it ends with that
            return release
        raw = state.writer.fail(status, code, message)
        return Release((*release.items, *(((raw, None),) if raw else ())), done=True)

    def keepalive(self) -> bytes:
        # What was decided, another try or an answer instead, is on its way: nothing may come before it.
        if not self._state.stream or self._state.done:
            return b""
        # The client sees a started stream from here on: no other status can follow, and no answer that is no stream.
        self._state.left = self._exchange.kept_alive = self._sent = True
        return self._exchange.format.keepalive

    def overdue(self) -> str | None:
        call = self._late = self._exchange.overdue()
        return None if call is None else f"{call.registered.name}.{call.hook}"

    async def _release(self, *, drain: bool = True) -> Release:
        return await self._settled(await self._released() if drain else self._pending(()))

    async def _settled(self, release: Release) -> Release:
        """`release` behind what has begun to leave, once what was decided about either is on record."""
        if self._begun:
            release.items, self._begun = (*self._begun, *release.items), []
        if self._exchange.record.owes:
            problem = await unrecorded(self._exchange)
            if problem is not None:
                return self._instead(problem, release)
        self._sent = self._sent or bool(release.items)
        return release

    def _instead(self, problem: Answer, release: Release) -> Release:
        """What was decided does not happen: `release` does not leave, and the answer ends here."""
        state, exchange = self._state, self._exchange
        state.done, state.flow = True, None
        if not self._sent:
            return Release(done=True, answer=problem)
        raw = state.writer.fail(problem.status, "not_recorded", UNRECORDED)
        if not raw and release.items:  # the end that this writer has written is among them
            raw = exchange.writer(stream=state.stream).fail(problem.status, "not_recorded", UNRECORDED)
        return Release(((raw, None),) if raw else (), done=True)

    async def _released(self) -> Release:
        response, state = self._response, self._state
        items = await response.drain()
        if state.done:
            return await self._ended(items)
        if response.complete and not self._jobs.running and not self._told:
            self._told = True
            await self._tell_end(response)
            if state.cut:
                raw = state.writer.fail(502, "upstream_error", "the upstream ended inside a tool call")
                items = [*items, (raw, None)] if raw else items
        return self._pending(tuple(items))

    def _pending(self, items: tuple[Item, ...]) -> Release:
        response, state, aside = self._response, self._state, self._jobs.aside
        return Release(
            items,
            pending=len(state.jobs) + aside,
            aside=aside,
            complete=response.all_left,
            held=state.held_bytes,
        )

    async def _tell_end(self, response: Response) -> None:
        exchange, state = self._exchange, response.state
        if state.cut:
            message = "the upstream ended inside a tool call"
            exchange.decide_outcome(OutcomeStatus.UPSTREAM_ERROR, reason=message)
            await exchange.fail(message, status=502, code="upstream_error")
        elif self._status >= 400:
            exchange.decide_outcome(OutcomeStatus.UPSTREAM_ERROR, reason=f"status {self._status}")
        elif state.stream and not state.terminal:
            reason = "the upstream's stream has no end"
            exchange.record(EventType.RESPONSE_NOTED, reason=reason)
            exchange.decide_outcome(OutcomeStatus.UPSTREAM_ERROR, reason=reason)
        if state.usage:
            exchange.record(EventType.USAGE, usage=dict(state.usage))
        if exchange.plan.calls["on_response_completed"] and not exchange.plan.holds_response:
            await exchange.observe("on_response_completed", response.completed())

    async def _ended(self, items: list[tuple[bytes, int | None]]) -> Release:
        """The answer was ended by a verdict: with words in the stream, an answer instead, or another try."""
        response, state, exchange = self._response, self._state, self._exchange
        intervention, state.intervention = state.intervention, None
        if intervention is None:
            return Release(tuple(items), done=True)
        verdict = intervention.verdict
        if isinstance(verdict, Retry):
            if not exchange.released_any and exchange.retries < exchange.services.limits.max_retries:
                response.recorded()
                refused = await exchange.retry(verdict, intervention.policy)
                if refused is None:
                    return Release(done=True, retry=exchange.body)
                intervention = refused
            else:
                intervention = Intervention(intervention.policy, Abort(verdict.reason))
            exchange.intervened(intervention)
            if state.left:
                return Release(((response.closing(intervention), None),), done=True)
        message = exchange.said = message_for(intervention)
        if self._status >= 400:
            return Release(
                done=True, answer=error_answer(exchange.format, self._status, "upstream_error", message)
            )
        answer = refusal(exchange, message, state.usage, stream=state.stream)
        if answer.status == 200:
            return Release(((answer.body, None),), done=True)
        return Release(done=True, answer=answer)
