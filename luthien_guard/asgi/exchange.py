"""One guarded HTTP exchange: who runs, who watches, how it ends.

The application runs in the caller's task, so that its context variables and its errors are the host's. One task beside
it owns the server's `receive` and the deadlines. Whatever happens, the plane hears the end exactly once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

from luthien_guard.asgi.client import Client
from luthien_guard.asgi.handle import ExchangeHandle, current
from luthien_guard.asgi.inner import Onward, Replay, Seal, inner_scope, promises_errors
from luthien_guard.asgi.outlet import Attempt, Outlet
from luthien_guard.asgi.response import Response
from luthien_guard.asgi.straight import Straight
from luthien_guard.asgi.types import AppGuard, ASGIApp, Headers, Receive, Scope
from luthien_guard.cancellation import must_travel
from luthien_guard.clock import Clock, MonotonicClock
from luthien_guard.control_plane.service import Answer, RequestDecision
from luthien_guard.exchange import Outcome, OutcomeStatus, RequestMetadata
from luthien_guard.pipeline import Beside, Deadlines, Expiry, Turn, beside

__all__ = ["Exchange"]

logger = logging.getLogger("luthien_guard")

_ENDED: Final = Expiry(502, "upstream_error", "the upstream ended its answer before it was complete")
_BROKEN: Final = Expiry(500, "internal_error", "the guard failed to decide about this answer")
_RETRIES: Final = Expiry(502, "too_many_retries", "a policy asked for more retries than are allowed")


class Exchange:
    """From a whole request to the end of its answer."""

    __slots__ = (
        "_app",
        "_attempt",
        "_beside",
        "_client",
        "_clock",
        "_closed",
        "_deadlines",
        "_decision",
        "_ends_at_once",
        "_error",
        "_format",
        "_guard",
        "_headers",
        "_heard",
        "_inside",
        "_left",
        "_metadata",
        "_now",
        "_plane",
        "_planned",
        "_receive",
        "_running",
        "_scope",
        "_seal",
        "_silent",
        "_stopped",
        "_turn",
        "_watching",
        "covered",
    )

    _silent: anyio.Event  # of an exchange that is watched: the application may hear "http.disconnect" now

    def __init__(
        self,
        app: ASGIApp,
        guard: AppGuard,
        clock: Clock,
        scope: Scope,
        receive: Receive,
        client: Client,
        metadata: RequestMetadata,
        wire_format: str,
        headers: Headers,
    ) -> None:
        self._app = app
        self._guard = guard
        self._plane = guard.plane
        self._clock = clock
        self._scope = scope
        self._receive = receive
        self._client = client
        self._metadata = metadata
        self._format = wire_format
        self._headers = headers
        self._seal = Seal(guard, wire_format)
        self._now = clock.source if isinstance(clock, MonotonicClock) else clock
        self._deadlines = Deadlines(self._now, guard.limits)
        self.covered = True
        self._beside: Beside | None = None  # of an exchange that is watched
        self._decision: RequestDecision | None = None
        self._attempt: Attempt | None = None
        self._running: anyio.CancelScope | None = None  # around what the caller's task does now
        self._stopped = False  # the client is gone or time is up: start nothing more
        self._turn = Turn()  # of those who see to what happens beside the application
        self._planned = 0.0  # when somebody looks at the deadlines next
        self._watching = False
        self._inside = False  # the caller's task is in the application and its policies
        self._left: anyio.Event | None = None  # it is out, for who waits for that
        self._closed = False
        self._ends_at_once = False  # closing needs no scope
        self._heard = False  # the watcher has seen the disconnect
        self._error: BaseException | None = None  # the host's own

    async def run(self, body: bytes, *, watched: bool = True) -> None:
        """Decide the request `body`, serve it, close. Raises what the application raised.

        Unless `watched`, nothing runs beside the application for as long as no policy looks at the answer: it is then
        served as it would be without a guard. `covered` says afterwards whether one did.
        """
        try:
            if watched:
                await self._watched(lambda: self._first(body))
            else:
                await self._unwatched(body)
        finally:
            if not self._closed:
                await self._close(Outcome(OutcomeStatus.CANCELLED, reason="the exchange was cancelled"))
            if self._attempt is not None and self._attempt.lanes is not None:
                self._attempt.lanes.close()
        if self._error is not None:
            raise self._error

    # -- the caller's task ---------------------------------------------------------------------------------------------

    async def _watched(self, work: Callable[[], Awaitable[None]]) -> None:
        self._silent = anyio.Event()
        self._watching = self._inside = True
        async with beside(self._clock, self._looks) as self._beside:
            self._beside.start(self._watch)
            self._plan()
            await self._serve(work)
            self._inside = False
            if self._left is not None:
                self._left.set()
            # Most servers report the disconnect once the answer is complete: cheaper than a cancellation.
            await checkpoint()
            if not self._heard:
                self._beside.cancel()

    async def _unwatched(self, body: bytes) -> None:
        decision = await self._decided(body)
        if decision is None:
            return
        if decision.covers_response:
            await self._watched(lambda: self._begin(decision))
            return
        attempt = Straight(self._outlet())
        try:
            await self._run_app(
                attempt, decision.body, Onward(decision.body, self._receive, self._client).receive
            )
        except BaseException as error:
            if must_travel(error):
                raise
            if attempt.began:
                await self._broken_off(attempt)
            else:
                await self._close(_failed(error))
            raise
        if not attempt.finished:
            await self._broken_off(attempt)

    async def _broken_off(self, attempt: Attempt) -> None:
        """End the answer as far as the client takes it: nobody watches, and it may have stopped reading."""
        with self._clock.until(self._clock() + self._guard.limits.close_timeout):
            await attempt.fail(_ENDED)

    async def _serve(self, work: Callable[[], Awaitable[None]]) -> None:
        await self._stoppable(work)
        tries = 1
        while (attempt := self._attempt) is not None and attempt.retry is not None and not self._stopped:
            await self._again(attempt.retry, tries)
            tries += 1
        await self._concluded()
        if self._client.gone and not self._closed:
            await self._close(_GONE)

    async def _first(self, body: bytes) -> None:
        """Decide the request and run the application: in one scope, because every request pays for it."""
        decision = await self._decided(body)
        if decision is not None:
            await self._begin(decision)

    async def _begin(self, decision: RequestDecision) -> None:
        outlet = self._outlet()
        attempt = Response(outlet, 0) if decision.covers_response else Straight(outlet)
        await self._run_app(attempt, decision.body)

    async def _again(self, body: bytes, tries: int) -> None:
        if self._attempt is not None and self._attempt.lanes is not None:
            self._attempt.lanes.close()
        response = Response(self._outlet(), tries)
        if tries <= self._guard.limits.max_retries:
            await self._stoppable(lambda: self._run_app(response, body))
        else:
            self._attempt = response
            await self._stoppable(lambda: response.fail(_RETRIES))

    async def _decided(self, body: bytes) -> RequestDecision | None:
        result = await self._plane.decide_request(self._metadata, self._format, body)
        decision = result.value
        self.covered, self._ends_at_once = decision.covers_response, decision.ends_at_once
        if decision.answer is None:
            self._decision = decision
            return decision
        await self._client.answer(decision.answer)
        await self._finished()
        return None

    async def _run_app(self, attempt: Attempt, body: bytes, receive: Receive | None = None) -> None:
        self._attempt = attempt
        handle = ExchangeHandle(
            self._metadata.call_id, self._format, self._metadata, self._plane, self._decision
        )
        scope = inner_scope(self._scope, self._headers, body, handle, self._seal)
        token = current.set(handle)
        try:
            await self._app(scope, receive or Replay(body, self._silent).receive, attempt.send)
        finally:
            current.reset(token)

    async def _stoppable(self, work: Callable[[], Awaitable[None]]) -> None:
        """Await `work()` so that the watcher can end it. Its error is kept for later: a task group would wrap it, and
        the answer has to be ended first."""
        with anyio.CancelScope() as scope:
            self._running = scope
            if self._stopped:
                scope.cancel()
            try:
                await work()
            except BaseException as error:
                if isinstance(error, anyio.get_cancelled_exc_class()) and must_travel(error):
                    raise
                if scope.cancel_called:
                    logger.debug("the application failed while it was cancelled", exc_info=error)
                else:
                    self._error = error

    async def _concluded(self) -> None:
        """The application is out; see that its answer is complete."""
        attempt = self._attempt
        if self._closed or self._client.gone:
            return
        if self._stopped:
            await self._silent.wait()  # the watcher is ending the answer
        elif attempt is None:
            await self._close(Outcome(OutcomeStatus.POLICY_ERROR, reason=f"the guard raised {self._error!r}"))
        elif self._error is not None and not attempt.began:
            await self._close(_failed(self._error))
        elif not attempt.finished:
            await self._stoppable(lambda: attempt.fail(_ENDED))
        else:
            await self._silent.wait()  # the stream lane is still at work

    # -- the watcher ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Own the server's `receive`."""
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except BaseException as error:
            if must_travel(error):
                raise
            self._error = self._error or error  # the caller's task raises it
        await self._alone(self._disconnected)

    async def _looks(self) -> None:
        """The alarm has rung."""
        await self._alone(self._look)
        self._plan()

    async def _alone(self, work: Callable[[], Awaitable[None]]) -> None:
        """One at a time; an error in it ends the exchange, and is raised by the caller's task."""
        await self._turn.take()
        try:
            await work()
        except BaseException as error:
            if must_travel(error):
                raise
            self._error = self._error or error
            self._stopped = True
            self._silent.set()
            self._cancel()
        finally:
            self._turn.give()

    def _plan(self) -> None:
        if self._beside is not None:
            self._planned = self._deadlines.wake_at()
            self._beside.wake_at(self._planned)

    def _wake(self) -> None:
        """There may be a deadline that was not known when the alarm was set."""
        if self._deadlines.wake_at() < self._planned:
            self._plan()

    def _outside(self, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        assert self._beside is not None  # what has lanes is watched
        self._beside.start(work, *args)

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _look(self) -> None:
        lanes = self._attempt.lanes if self._attempt is not None else None
        self._deadlines.broken = False
        if self._client.finished or self._heard:
            self._deadlines.close()
        elif lanes is not None and lanes.error is not None:
            self._error = lanes.error
            await self._expire(_BROKEN)
        elif expiry := self._deadlines.expired(lanes.stream.overdue() if lanes is not None else None):
            await self._expire(expiry)
        elif lanes is not None and self._deadlines.keepalive_due():
            self._outside(lanes.keepalive)

    async def _expire(self, expiry: Expiry) -> None:
        """Time is up: stop the application, end the answer. It may be stuck where no cancellation reaches it (a
        thread), so nothing here waits for it."""
        self._stopped = True
        self._deadlines.close()
        self._cancel()
        with self._clock.until(self._clock() + self._guard.limits.close_timeout):
            if self._attempt is not None:
                await self._attempt.fail(expiry)
        if not self._client.finished:
            with self._clock.until(self._clock() + self._guard.limits.close_timeout):
                await self._cut(expiry)
        if not self._closed:
            await self._close(Outcome(OutcomeStatus.TIMEOUT, reason=expiry.message))

    async def _cut(self, expiry: Expiry) -> None:
        if self._client.started:
            await self._client.write(b"", end=True)
        else:
            await self._client.answer(self._error_answer(expiry))

    async def _disconnected(self) -> None:
        self._heard = True
        self._silent.set()
        if self._client.finished:
            return  # servers say so after every complete answer
        self._client.gone = self._stopped = True
        self._deadlines.close()
        self._cancel()
        if self._attempt is not None and self._attempt.lanes is not None:
            self._attempt.lanes.close()
        with self._clock.until(self._clock() + self._guard.limits.close_timeout):
            if self._inside:
                self._left = anyio.Event()
                await self._left.wait()
        if not self._closed:
            await self._close(_GONE)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def _finished(self, outcome: Outcome | None = None) -> None:
        """The last byte is out. `outcome` is what the plane cannot know."""
        await self._close(outcome)

    async def _close(self, outcome: Outcome | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._seal.open = False
        if self._ends_at_once:
            await self._plane.close(self._metadata.call_id, outcome)
        else:
            with self._clock.until(self._clock() + self._guard.limits.close_timeout) as scope:
                scope.shield = True
                await self._plane.close(self._metadata.call_id, outcome)
        if self._watching:
            self._silent.set()

    # -- what is handed around -----------------------------------------------------------------------------------------

    def _outlet(self) -> Outlet:
        return Outlet(
            call_id=self._metadata.call_id,
            wire_format=self._format,
            plane=self._plane,
            client=self._client,
            now=self._now,
            limits=self._guard.limits,
            deadlines=self._deadlines,
            spawn=self._outside,
            wake=self._wake,
            cancel=self._cancel,
            finished=self._finished,
            error=self._error_answer,
            head=self._scope["method"] == "HEAD",
            raises=promises_errors(self._scope),
        )

    def _error_answer(self, expiry: Expiry) -> Answer:
        body = self._guard.formats[self._format].error(expiry.status, expiry.code, expiry.message)
        return Answer(expiry.status, "application/json", body)


_GONE: Final = Outcome(OutcomeStatus.CANCELLED, reason="the client disconnected")


def _failed(error: BaseException) -> Outcome:
    return Outcome(OutcomeStatus.UPSTREAM_ERROR, reason=f"the application raised {type(error).__name__}")

