"""One guarded HTTP exchange: its request is decided, the application is run, its end is told exactly once."""

from __future__ import annotations

import logging
from contextvars import Token

import anyio

from luthien_guard.asgi.client import Client
from luthien_guard.asgi.endings import CANCELLED, CUT_OFF, ENDED, GONE, ended, failed, undecided
from luthien_guard.asgi.handle import ExchangeHandle, current
from luthien_guard.asgi.inner import inner_scope, promises_errors
from luthien_guard.asgi.outlet import Attempt
from luthien_guard.asgi.straight import Straight
from luthien_guard.asgi.types import AppGuard, ASGIApp, Headers, Scope
from luthien_guard.asgi.watched import Watched
from luthien_guard.cancellation import must_travel
from luthien_guard.clock import Clock
from luthien_guard.control_plane.service import Answer, RequestDecision
from luthien_guard.exchange import Outcome, RequestMetadata
from luthien_guard.pipeline import Expiry, OutOfTime, in_time, total_expiry

__all__ = ["Exchange"]

logger = logging.getLogger("luthien_guard")


class Exchange:
    """From a whole request to the end of its answer. The application runs in the caller's task, so that its context
    variables and its errors are the host's."""

    __slots__ = (
        "_ends_at_once",
        "_handle",
        "_headers",
        "app",
        "attempt",
        "body",
        "client",
        "clock",
        "closed",
        "covered",
        "decision",
        "error",
        "expires",
        "guard",
        "metadata",
        "scope",
        "wire_format",
    )

    def __init__(
        self,
        app: ASGIApp,
        guard: AppGuard,
        clock: Clock,
        began: float,
        scope: Scope,
        client: Client,
        metadata: RequestMetadata,
        wire_format: str,
        headers: Headers,
        body: bytes,
    ) -> None:
        self._headers = headers
        self._handle: ExchangeHandle | None = None  # of the last attempt
        self._ends_at_once = False  # closing needs no scope
        self.app = app
        self.guard = guard
        self.clock = clock
        self.expires = began + guard.limits.total_timeout
        self.scope = scope
        self.client = client
        self.metadata = metadata
        self.wire_format = wire_format
        self.body = body  # as it came
        self.decision: RequestDecision | None = None  # unless the guard answers in the application's place
        self.covered = True  # a policy looks at the answer
        self.attempt: Attempt | None = None
        self.closed = False
        self.error: BaseException | None = None  # the host's own

    async def run(self, *, watched: bool = True) -> None:
        """Decide the request, serve it, close. Raises what the application raised.

        Unless `watched`, nothing runs beside the application for as long as no policy looks at the answer: it is then
        served as it would be without a guard. `covered` says afterwards whether one did.
        """
        try:
            if not watched:
                await self._decide_in_time()
            if watched or (self.decision is not None and self.covered):
                await Watched(self).run()
            elif self.decision is not None:
                await self._straight(self.decision.body)
        except anyio.get_cancelled_exc_class():
            await self._cut_off()
            raise
        finally:
            if not self.closed:
                await self.close(None if self._lingers() else CANCELLED)
            self.attempt = None  # it knows the exchange: what is over must not wait for a garbage collection
        if self.error is not None:
            raise self.error

    async def decide(self) -> None:
        """Ask what to run the application with, or answer in its place."""
        result = await self.guard.plane.decide_request(self.metadata, self.wire_format, self.body)
        decision = result.value
        self.covered, self._ends_at_once = decision.covers_response, decision.ends_at_once
        if decision.answer is None:
            self.decision = decision
            return
        await self.client.answer(decision.answer)
        await self.close()

    async def _cut_off(self) -> None:
        """The server ends, or the host has no more time: a client that has had a part of its answer is told that this was
        not the end, if it is reading: the record is closed while somebody takes it. Before that the answer is the host's, who
        may have one."""
        if self.closed or self.attempt is None or not self.client.started or self.client.finished:
            return
        self.client.hurried = True
        try:
            with self.briefly() as scope:
                scope.shield = True
                await self.attempt.fail(CUT_OFF)
        except Exception:
            logger.debug("an answer that was cancelled could not be ended", exc_info=True)

    def enter(self, attempt: Attempt, body: bytes) -> tuple[Scope, Token[ExchangeHandle | None]]:
        """What to run the application with for this attempt, and what to give back to `current` afterwards."""
        if self._handle is not None:
            self._handle.open = False
        self.attempt = attempt
        metadata = self.metadata
        handle = ExchangeHandle(metadata.call_id, self.wire_format, metadata, self.guard, self.decision)
        self._handle = handle
        return inner_scope(self.scope, self._headers, body, handle), current.set(handle)

    async def close(self, outcome: Outcome | None = None) -> None:
        """Tell the plane the end, once; `outcome` is what it cannot know."""
        if self.closed:
            return
        self.closed = True
        if self._handle is not None:
            self._handle.open = False
        try:
            if self._ends_at_once:
                await self.guard.plane.close(self.metadata.call_id, outcome)
            else:
                with self.briefly() as scope:
                    scope.shield = True
                    await self.guard.plane.close(self.metadata.call_id, outcome)
        finally:  # a verdict that is still awaited has nobody left to tell
            if self.attempt is not None and self.attempt.lanes is not None:
                self.attempt.lanes.close()

    def _lingers(self) -> bool:
        """The client has its answer; who only looks on is not done with it."""
        return self.attempt is not None and self.attempt.lanes is not None and self.attempt.lanes.lingers

    def briefly(self) -> anyio.CancelScope:
        """A scope for what must not take longer than it takes to close."""
        return self.clock.until(self.clock() + self.guard.limits.close_timeout)

    async def cut(self, expiry: Expiry, last: bytes = b"") -> None:
        """End what is left of the answer, and the exchange, without asking anybody. `last`: what an answer that has
        begun still says."""
        if self.closed:
            return
        try:
            if not self.client.finished:
                with self.briefly():
                    if self.client.started:
                        await self.client.write(last, end=True)
                    else:
                        await self.client.answer(self._error(expiry))
        finally:  # servers do not take an end where they were promised more
            outcome = GONE if self.client.gone else ended(expiry)
            await self.close(None if self._lingers() else outcome)

    def _error(self, expiry: Expiry) -> Answer:
        body = self.guard.formats[self.wire_format].error(expiry.status, expiry.code, expiry.message)
        return Answer(expiry.status, "application/json", body)

    # -- what its attempts need: see `Outlet` --------------------------------------------------------------------------

    @property
    def call_id(self) -> str:
        return self.metadata.call_id

    @property
    def raises(self) -> bool:
        return promises_errors(self.scope)

    # -- with nobody beside the application ----------------------------------------------------------------------------

    async def _decide_in_time(self) -> None:
        try:
            await in_time(self.clock, self.expires, self.decide())
        except OutOfTime:
            await self.cut(total_expiry(self.guard.limits))
        except BaseException as error:
            if not must_travel(error):
                await self.close(undecided(error))
            raise

    async def _straight(self, body: bytes) -> None:
        attempt, client = Straight(self), self.client
        client.body = body
        scope, token = self.enter(attempt, body)
        try:
            await self.app(scope, client.hear, attempt.send)
        except BaseException as error:
            if must_travel(error):
                raise
            self.error = error
            if not attempt.began:
                await self.close(failed(error))
        finally:
            current.reset(token)
        if not self.closed:
            await self._broken_off(attempt)

    async def _broken_off(self, attempt: Attempt) -> None:
        """End the answer as far as the client takes it: nobody watches, and it may have stopped reading."""
        try:
            with self.briefly():
                await attempt.fail(ENDED)
        except BaseException as error:
            if must_travel(error):
                raise
            self.error = self.error or error  # the first is the application's own
