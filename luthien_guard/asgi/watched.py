"""An exchange with somebody beside the application, who owns the server's `receive` and the deadlines.

Two tasks share it: the caller's, in which the application runs, and the watcher's, which may end it. Whoever ends the
answer does so in turn, and the exchange is closed once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from luthien_guard.asgi.endings import BROKEN, ENDED, GONE, RETRIES, failed, undecided
from luthien_guard.asgi.handle import current
from luthien_guard.asgi.inner import Replay
from luthien_guard.asgi.outlet import Attempt
from luthien_guard.asgi.request import has_left
from luthien_guard.asgi.response import Response
from luthien_guard.asgi.straight import Straight
from luthien_guard.cancellation import must_travel
from luthien_guard.clock import MonotonicClock
from luthien_guard.exchange import Outcome
from luthien_guard.pipeline import Beside, Deadlines, Expiry, Lanes, Signal, Turn, beside

if TYPE_CHECKING:
    from luthien_guard.asgi.exchange import Exchange

__all__ = ["Watched"]

logger = logging.getLogger("luthien_guard")


class Watched:
    """Runs the application of an `Exchange` until its answer is complete, the client gone or time up."""

    __slots__ = (
        "_ending",
        "_exchange",
        "_given",
        "_heard",
        "_left",
        "_out",
        "_planned",
        "_replay",
        "_running",
        "_silent",
        "_stopped",
        "_turn",
        "_watching",
        "beside",
        "client",
        "deadlines",
        "limits",
        "now",
        "plane",
    )

    def __init__(self, exchange: Exchange) -> None:
        clock = exchange.clock
        self._exchange = exchange
        self.client = exchange.client
        self.plane = exchange.guard.plane
        self.limits = exchange.guard.limits
        self.now = clock.source if isinstance(clock, MonotonicClock) else clock
        self.deadlines = Deadlines(self.now, self.limits, total=exchange.expires)
        self.beside: Beside = beside(clock, self._rung)
        self._given = dict(exchange.scope.get("state") or ())  # before the application runs
        self._silent = Signal()  # the answer is complete, or nobody is there to get it
        self._running: anyio.CancelScope | None = None  # around what the caller's task does now
        self._replay: Replay | None = None  # what the application receives, while it runs
        self._ending = False  # what the caller's task does now is to end
        self._out: anyio.Event | None = None  # it has ended, for who waits for that
        self._stopped = False  # the client is gone or time is up: start nothing more
        self._turn = Turn()  # of those who see to what happens beside the application
        self._planned = 0.0  # when somebody looks at the deadlines next
        self._left = Signal()  # the caller's task is out of the application and its policies
        self._watching = False  # there is a watcher: the caller's task has waited for something
        self._heard = False  # it has seen the disconnect

    async def run(self) -> None:
        """Decide the request, unless that has been done, and serve it."""
        async with self.beside:
            self.beside.meanwhile(self._watch)
            await self._serve()
            self._left.set()
            if self._watching:
                # Most servers report the disconnect once the answer is complete: cheaper than a cancellation.
                await checkpoint()
            if not self._heard:
                self.beside.cancel()

    # -- the caller's task ---------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        await self._stoppable(self._first)
        tries = 1
        while (attempt := await self._heard_out()) is not None and attempt.retry is not None:
            await self._again(attempt, attempt.retry, tries)
            tries += 1
        await self._concluded()
        if self.client.gone and not self._exchange.closed:
            await self.close(GONE)

    async def _first(self) -> None:
        """In one scope with the decision, because every request pays for it."""
        exchange = self._exchange
        if exchange.decision is None:
            await exchange.decide()
        if exchange.decision is not None:
            attempt = Response(self, 0) if exchange.covered else Straight(self)
            await self._run_app(attempt, exchange.decision.body)

    async def _again(self, last: Attempt, body: bytes, tries: int) -> None:
        if last.lanes is not None:
            last.lanes.close()
        self._forget()
        response = Response(self, tries)
        if tries <= self.limits.max_retries:
            await self._stoppable(lambda: self._run_app(response, body))
        else:
            self._exchange.attempt = response
            await self._stoppable(lambda: response.fail(RETRIES))

    def _forget(self) -> None:
        """What the last attempt has left in the state: frameworks keep the body there that they have read (Litestar)."""
        state = self._exchange.scope.get("state")
        if isinstance(state, dict):
            state.clear()
            state.update(self._given)

    async def _run_app(self, attempt: Attempt, body: bytes) -> None:
        exchange = self._exchange
        scope, token = exchange.enter(attempt, body)
        replay = self._replay = Replay(body)
        try:
            await exchange.app(scope, replay.receive, attempt.send)
        finally:
            self._replay = None
            current.reset(token)

    async def _stoppable(self, work: Callable[[], Awaitable[None]]) -> None:
        """Await `work()` so that the watcher can end it. Its error is kept for later: a task group would wrap it, and
        the answer has to be ended first."""
        with anyio.CancelScope() as scope:
            self._running, self._ending = scope, False
            if self._stopped:
                scope.cancel()
            try:
                await work()
            except BaseException as error:
                if isinstance(error, anyio.get_cancelled_exc_class()) and must_travel(error):
                    raise
                if scope.cancel_called or self._ending:
                    logger.debug("the application failed while it was ended", exc_info=error)
                else:
                    self._keep(error)
            finally:
                if self._out is not None:
                    self._out.set()
                    self._out = None

    async def _heard_out(self) -> Attempt | None:
        """The attempt, once its stream lane is done with what the application has said; None when it is too late for
        another."""
        attempt = self._exchange.attempt
        if attempt is None or self._is_over():
            return None
        lanes, again = attempt.lanes, attempt.retry is not None
        if lanes is not None and not again and (lanes.ending or (attempt.finished and lanes.busy)):
            await self._stoppable(self._silent.wait)  # a retry ends it
        return None if self._is_over() else attempt

    def _is_over(self) -> bool:
        return self._exchange.closed or self._stopped or self.client.gone

    async def _concluded(self) -> None:
        """The application is out; see that its answer is complete."""
        attempt, error = self._exchange.attempt, self._exchange.error
        if not self._is_over():
            if attempt is None:
                await self.close(undecided(error))
            elif error is not None and not attempt.began:
                await self.close(failed(error))
            else:
                await self._stoppable(self._broken_off)
        if self._stopped and not self.client.gone:
            await self._silent.wait()  # the watcher is ending the answer

    # -- ending an answer that does not end by itself --------------------------------------------------------------------

    async def _broken_off(self) -> None:
        await self._exchange.cut(await self._failed(self._fault()))

    def _fault(self) -> Expiry:
        """Whose it is that the answer is not complete: the guard's, or the application's and its server's."""
        if self._lanes is None or self._lanes.error is None:
            return ENDED
        self._keep(self._lanes.error)
        return ENDED if self.client.refused else BROKEN

    async def _failed(self, expiry: Expiry) -> Expiry:
        """End the answer in its own words. Returns what is left to say without them."""
        attempt = self._exchange.attempt
        if attempt is not None and not self._exchange.closed:
            try:
                await attempt.fail(expiry)
            except BaseException as error:
                if must_travel(error):
                    raise
                self._keep(error)
                return expiry if self.client.refused else BROKEN
        return expiry

    def _keep(self, error: BaseException) -> None:
        """For the host, when the answer has been ended. The first is the one that the others follow from."""
        self._exchange.error = self._exchange.error or error

    @property
    def _lanes(self) -> Lanes | None:
        """Those of the attempt at hand."""
        attempt = self._exchange.attempt
        return None if attempt is None else attempt.lanes

    # -- the watcher's -------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Own the server's `receive` and the deadlines, from the first moment in which somebody waits."""
        self._watching = True
        self._plan()
        try:
            if not await has_left(self.client.receive):
                return
        except BaseException as error:
            if must_travel(error):
                raise
            self._keep(error)
        await self._alone(self._disconnected)

    def _rung(self) -> None:
        """The alarm. A task only where there is something to see to: of a thousand streams a hundred ring every second."""
        try:
            quiet = self._is_quiet()
        except Exception:  # noqa: BLE001 -- it comes again, where it ends the exchange
            quiet = False
        if quiet:
            self._plan()
        else:
            self.beside.start(self._looks)

    def _is_quiet(self) -> bool:
        lanes = self._lanes
        if self._exchange.closed or self.client.gone or self.deadlines.broken:
            return False
        if self._expired(lanes) is not None:
            return False
        return lanes is None or (lanes.error is None and not self.deadlines.keepalive_due)

    async def _looks(self) -> None:
        await self._alone(self._look)
        self._plan()

    async def _alone(self, work: Callable[[], Awaitable[None]]) -> None:
        """One at a time; an error in it ends the exchange."""
        await self._turn.take()
        try:
            await work()
        except BaseException as error:
            if must_travel(error):
                raise
            self._keep(error)
            self._stopped = True
            self._hang_up()
            self.cancel()
        finally:
            self._turn.give()

    async def _look(self) -> None:
        lanes = self._lanes
        self.deadlines.broken = False
        if self._exchange.closed or self.client.gone:
            self.deadlines.close()
        elif lanes is not None and lanes.error is not None:
            await self._expire(self._fault())
        elif expiry := self._expired(lanes):
            await self._expire(expiry)
        elif lanes is not None and self.deadlines.keepalive_due:
            self.deadlines.told = self.now()
            lanes.keepalive()

    def _expired(self, lanes: Lanes | None) -> Expiry | None:
        if not self.client.finished:
            return self.deadlines.expired(None if lanes is None else lanes.stream.overdue())
        self.deadlines.ending()  # the client may still be reading
        return self.deadlines.expired(None)

    async def _expire(self, expiry: Expiry) -> None:
        """Time is up: stop the application, end the answer. It may be stuck where no cancellation reaches it (a
        thread), so nothing here waits for it."""
        self._stopped = True
        self.deadlines.close()
        self.cancel()
        with self._exchange.briefly():
            expiry = await self._failed(expiry)
        await self.cut(expiry)

    async def _disconnected(self) -> None:
        self._heard = True
        if self._exchange.closed or (self.client.finished and not self.client.refused):
            return  # servers say so after every complete answer, some of them before they have taken the end
        self._hang_up()
        self._stopped = True
        self.client.leave()
        self.deadlines.close()
        self.cancel()
        if self._lanes is not None:
            self._lanes.close()
        with self._exchange.briefly():
            await self._left.wait()
        if not self._exchange.closed:
            await self.close(GONE)

    def _hang_up(self) -> None:
        self._silent.set()
        if self._replay is not None:
            self._replay.hang_up()

    async def _cancel_late(self, running: anyio.CancelScope, out: anyio.Event) -> None:
        with self._exchange.briefly():
            await out.wait()
        running.cancel()

    def _plan(self) -> None:
        self._planned = self.deadlines.wake_at()
        self.beside.wake_at(self._planned)

    # -- what its attempts need: see `WatchedOutlet` -------------------------------------------------------------------

    @property
    def call_id(self) -> str:
        return self._exchange.call_id

    @property
    def wire_format(self) -> str:
        return self._exchange.wire_format

    @property
    def raises(self) -> bool:
        return self._exchange.raises

    @property
    def enforces(self) -> bool:
        decision = self._exchange.decision
        return decision is None or decision.enforces

    def wake(self) -> None:
        if self.deadlines.may_come_before(self._planned):
            self._plan()

    def cancel(self) -> None:
        """End what the caller's task does. An application that listens for a disconnect hears one and has a while to end
        by itself: of one that waits for tasks of its own (Django's, Quart's), a cancellation would end the waiting only."""
        if self._running is None:
            return
        self._ending = True
        if self._replay is not None:
            self._replay.hang_up()
        if self._replay is None or not self._replay.told:
            self._running.cancel()
        elif self._out is None:
            self._out = anyio.Event()
            self.beside.start(self._cancel_late, self._running, self._out)

    async def close(self, outcome: Outcome | None = None) -> None:
        await self._exchange.close(outcome)
        self._hang_up()

    async def cut(self, expiry: Expiry, last: bytes = b"") -> None:
        await self._exchange.cut(expiry, last)
        self._hang_up()
