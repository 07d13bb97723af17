"""Where no policy looks at answers, an exchange is served as it would be without a guard; its record ends all the same."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from luthien_guard.asgi import GuardMiddleware
from luthien_guard.control_plane.service import Answer, RequestDecision
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.limits import Limits
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.plane import ScriptedGuard, ScriptedPlane
from tests.asgi.host import JSON, Speaker, Visit, visit, whole

pytestmark = pytest.mark.anyio


class Switched:
    """A plane whose policies look at answers only while `covers`; the application is exchanged as well."""

    def __init__(self) -> None:
        self.covers = False
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.plane = ScriptedPlane(decide=self._decide)
        self.app: Any = Speaker(b"{}", headers=JSON)
        self.middleware = GuardMiddleware(self._run, guard=ScriptedGuard(self.plane))

    def _decide(self, body: bytes) -> RequestDecision:
        if self.error is not None:
            raise self.error
        return RequestDecision(body, self.answer, covers_response=self.covers)

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    @property
    def last(self) -> OutcomeStatus | None:
        outcome = self.plane.closed[-1][1]
        return None if outcome is None else outcome.status


@pytest.fixture
async def switched() -> Switched:
    """After its first exchange, from which it knows that answers are not covered."""
    made = Switched()
    await visit(made.middleware)
    assert len(made.plane.closed) == 1
    return made


async def test_it_passes_and_the_record_is_closed(switched: Switched) -> None:
    heard = await visit(switched.middleware)
    assert (heard.status, heard.body, heard.complete) == (200, b"{}", True)
    assert b"x-luthien-call-id" in heard.headers
    assert switched.last is None
    assert len(switched.plane.closed) == 2


async def test_nothing_else_reads_what_the_server_says(switched: Switched) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        await Speaker(b"{}").__call__(scope, _done, send)

    async def _done() -> Any:
        return {"type": "http.request", "body": b""}

    switched.app = app
    seen = Visit(switched.middleware)
    await seen.run()
    assert seen.received == 1


async def test_what_follows_a_start_that_the_server_refused_goes_to_nobody(switched: Switched) -> None:
    said: list[Any] = [RuntimeError("no such status"), OSError("nobody listens")]

    def refuse(message: Any) -> None:
        raise said.pop(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        with pytest.raises(RuntimeError):
            await send({"type": "http.response.start", "status": 200, "headers": []})
        for more in (True, True, False):
            await send({"type": "http.response.body", "body": b"piece", "more_body": more})

    switched.app = app
    await Visit(switched.middleware, on_send=refuse).run()
    assert said == []
    assert switched.last is OutcomeStatus.CANCELLED


async def test_an_answer_of_the_guard_is_still_sent(switched: Switched) -> None:
    switched.answer = Answer(403, "application/json", b"no")
    assert (await visit(switched.middleware)).status == 403
    assert switched.last is None


async def test_a_guard_that_fails_to_decide_is_on_record_as_that(switched: Switched) -> None:
    switched.error = LookupError("no")
    with pytest.raises(LookupError):
        await visit(switched.middleware)
    assert switched.last is OutcomeStatus.POLICY_ERROR
    assert len(switched.plane.closed) == 2


async def test_a_decision_that_never_comes_gets_504() -> None:
    hangs = False

    async def decide(body: bytes) -> RequestDecision:
        if hangs:
            await anyio.sleep_forever()
        return RequestDecision(body, covers_response=False)

    plane, app, clock = ScriptedPlane(decide=decide), Speaker(b"x"), VirtualClock()
    middleware = GuardMiddleware(
        app, guard=ScriptedGuard(plane, clock=clock, limits=Limits(total_timeout=30))
    )
    await visit(middleware)
    hangs = True
    seen = Visit(middleware)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            await clock.advance(31)
    assert seen.heard.status == 504
    assert len(app.scopes) == 1
    assert [outcome.status for _, outcome in plane.closed[1:] if outcome] == [OutcomeStatus.TIMEOUT]


async def test_a_policy_that_looks_again_is_watched_again(switched: Switched) -> None:
    switched.covers = True
    heard = await visit(switched.middleware)
    assert heard.body == b"{}"
    assert len(switched.plane.streams) == 1
    await visit(switched.middleware)
    assert len(switched.plane.streams) == 2
    assert len(switched.plane.closed) == 3


async def test_a_covered_answer_after_uncovered_ones_is_cancelled_with_its_client(switched: Switched) -> None:
    switched.covers = True

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.gone.set()
        await anyio.sleep_forever()

    switched.app = app
    seen = Visit(switched.middleware)
    await seen.run()
    assert switched.last is OutcomeStatus.CANCELLED


@pytest.mark.parametrize("began", [False, True])
async def test_the_host_s_error_is_its_own(switched: Switched, began: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if began:
            await send({"type": "http.response.start", "status": 200, "headers": JSON})
        raise LookupError("mine")

    switched.app = app
    seen = Visit(switched.middleware)
    with pytest.raises(LookupError):
        await seen.run()
    assert seen.heard.complete is began
    assert switched.last is OutcomeStatus.UPSTREAM_ERROR
    assert len(switched.plane.closed) == 2


@pytest.mark.parametrize("said", [0, 1])
async def test_an_answer_without_its_end_gets_one(switched: Switched, said: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if said:
            await send({"type": "http.response.start", "status": 200, "headers": JSON})

    switched.app = app
    heard = await visit(switched.middleware)
    assert heard.complete
    assert heard.status == (200 if said else 502)
    assert switched.last is OutcomeStatus.UPSTREAM_ERROR


@pytest.mark.parametrize("listens", [True, False])
async def test_a_client_that_left_is_in_the_record(switched: Switched, listens: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.gone.set()
        if listens:
            assert (await receive())["type"] == "http.disconnect"
        await Speaker(b"{}")(scope, _empty, send)

    async def _empty() -> Any:
        return {"type": "http.request", "body": b""}

    def refuse(message: Any) -> None:
        raise OSError("gone")

    switched.app = app
    seen = Visit(switched.middleware, on_send=None if listens else refuse)
    await seen.run()
    assert switched.last is OutcomeStatus.CANCELLED
    assert len(switched.plane.closed) == 2


async def test_a_cancellation_closes_the_record_once(switched: Switched) -> None:
    switched.app = lambda *_: anyio.sleep_forever()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Visit(switched.middleware).run)
        await VirtualClock().rest()
        tasks.cancel_scope.cancel()
    assert switched.last is OutcomeStatus.CANCELLED
    assert len(switched.plane.closed) == 2
