"""Section 3: who is cancelled, who is told, and that every exchange is closed once."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from luthien_guard.asgi import GuardMiddleware
from luthien_guard.control_plane.service import Release, RequestDecision, StreamingContext
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.limits import Limits
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.plane import ScriptedGuard, ScriptedPlane, ScriptedStream
from tests.asgi.host import JSON, SSE, Speaker, Visit, visit

pytestmark = pytest.mark.anyio

START = {"type": "http.response.start", "status": 200, "headers": SSE}


def piece(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def outcomes(plane: ScriptedPlane) -> list[OutcomeStatus | None]:
    return [outcome.status if outcome is not None else None for _, outcome in plane.closed]


class Pending(ScriptedStream):
    """Holds from "?" on until `verdict` is set."""

    verdict: anyio.Event

    def __init__(self, context: StreamingContext) -> None:
        super().__init__(context)
        self.verdict = anyio.Event()
        self.held: list[bytes] = []

    async def take(self, data: bytes, *, last: bool) -> Release:
        if not self.held and b"?" not in data:
            return await super().take(data, last=last)
        if data:
            self.held.append(data)
        if self.verdict.is_set():
            free, self.held = tuple((each, None) for each in self.held), []
            return Release(items=free)
        return Release(pending=int(b"?" in data), held=1)

    async def judge(self) -> None:
        await self.verdict.wait()


# -- disconnects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", range(6))
@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_a_disconnect_at_any_message_ends_the_application_and_the_record(
    boundary: int, spec: str
) -> None:
    plane, ended = ScriptedPlane(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            for at, message in enumerate(
                [None, START, piece(b"data: a\n\n"), piece(b"data: b\n\n"), piece(b"")]
            ):
                if at == boundary:
                    seen.gone.set()
                if message is not None:
                    await send(message)
                await anyio.lowlevel.checkpoint()
            if boundary == 5:
                seen.gone.set()
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    seen = Visit(
        GuardMiddleware(app, guard=ScriptedGuard(plane)), asgi={"version": "3.0", "spec_version": spec}
    )
    with anyio.fail_after(10):
        await seen.run()
    assert ended == [True]
    assert outcomes(plane) == [OutcomeStatus.CANCELLED]


@pytest.mark.parametrize(
    ("spec", "raises"), [("2.0", False), ("2.3", False), ("2.4", True), ("2.5", True), ("3.0", True)]
)
async def test_send_after_a_disconnect_does_what_the_server_promises(spec: str, raises: bool) -> None:
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with anyio.CancelScope(shield=True):
            seen.gone.set()
            assert (await receive())["type"] == "http.request"
            assert (await receive())["type"] == "http.disconnect"
            try:
                await send(piece(b"data: late\n\n"))
                told.append(False)
            except OSError:
                told.append(True)

    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard()), asgi={"version": "3.0", "spec_version": spec})
    heard = await seen.run()
    assert told == [raises]
    assert heard.messages == []


@pytest.mark.parametrize("covers", [True, False])
async def test_an_application_that_never_waits_is_ended_when_it_sends_to_nobody(covers: bool) -> None:
    went_on = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"data: a\n\n"))
        with anyio.CancelScope(shield=True):
            seen.gone.set()
            await anyio.wait_all_tasks_blocked()
        for _ in range(10):
            await send(piece(b"data: late\n\n"))
        went_on.append(True)

    plane = ScriptedPlane(decide=lambda body: RequestDecision(body, covers_response=covers))
    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    await seen.run()
    assert not went_on
    assert outcomes(plane) == [OutcomeStatus.CANCELLED]


async def test_an_application_that_listens_may_end_by_itself() -> None:
    """As it does on its server: a cancellation could reach the task that waits and not those that it waits for."""
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        await send(piece(b"data: a\n\n"))
        seen.gone.set()
        assert (await receive())["type"] == "http.disconnect"
        await anyio.wait_all_tasks_blocked()
        ended.append(True)

    plane = ScriptedPlane()
    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    await seen.run()
    assert ended
    assert outcomes(plane) == [OutcomeStatus.CANCELLED]


async def test_but_not_for_ever() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.gone.set()
        assert (await receive())["type"] == "http.disconnect"
        await anyio.sleep_forever()

    plane = ScriptedPlane()
    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, limits=Limits(close_timeout=0.01))))
    with anyio.fail_after(20):
        await seen.run()
    assert outcomes(plane) == [OutcomeStatus.CANCELLED]


async def test_a_disconnect_while_the_request_is_decided_ends_the_decision() -> None:
    deciding = anyio.Event()

    async def decide(body: bytes) -> RequestDecision:
        deciding.set()
        await anyio.sleep_forever()
        raise AssertionError

    plane = ScriptedPlane(decide=decide)
    app = Speaker(b"x")
    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await deciding.wait()
        seen.gone.set()
    assert app.scopes == []
    assert outcomes(plane) == [OutcomeStatus.CANCELLED]


async def test_a_disconnect_while_a_verdict_is_pending_ends_the_verdict() -> None:
    plane = ScriptedPlane(Pending)
    clock = VirtualClock()
    seen = Visit(GuardMiddleware(Speaker(b"data: ?\n\n"), guard=ScriptedGuard(plane, clock=clock)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.rest()
        seen.gone.set()
    assert seen.heard.messages == []
    assert outcomes(plane) == [OutcomeStatus.CANCELLED]


async def test_a_server_that_raises_from_send_is_a_disconnect() -> None:
    plane = ScriptedPlane()

    def refuse(message: Any) -> None:
        raise OSError("gone")

    seen = Visit(GuardMiddleware(Speaker(b"data: a\n\n"), guard=ScriptedGuard(plane)), on_send=refuse)
    await seen.run()
    assert len(plane.closed) == 1


async def test_an_application_stuck_in_a_thread_does_not_delay_the_record() -> None:
    plane, clock = ScriptedPlane(), VirtualClock()
    entered = anyio.Event()
    leave = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with anyio.CancelScope(shield=True):  # as a worker thread is
            entered.set()
            await leave.wait()

    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=clock)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await entered.wait()
        seen.gone.set()
        await clock.advance(6)
        assert outcomes(plane) == [OutcomeStatus.CANCELLED]
        leave.set()
    assert len(plane.closed) == 1


@pytest.mark.parametrize("after", range(12))
async def test_a_cancellation_from_outside_closes_the_record_once(after: int) -> None:
    """As a server does at its shutdown, at the first moments of an exchange one by one."""
    plane = ScriptedPlane(Pending)
    seen = Visit(
        GuardMiddleware(Speaker(b"data: a\n\n", b"data: ?\n\n", b"data: c\n\n"), guard=ScriptedGuard(plane))
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        for _ in range(after):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert len(plane.closed) == len(plane.requests)
    assert b"?" not in seen.heard.body


async def test_closing_is_shielded_and_bounded() -> None:
    begun = anyio.Event()

    async def close() -> None:
        begun.set()
        await anyio.sleep_forever()

    clock = VirtualClock()
    plane = ScriptedPlane(close=close)
    seen = Visit(GuardMiddleware(Speaker(b"data: a\n\n"), guard=ScriptedGuard(plane, clock=clock)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await begun.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await clock.advance(4)
            assert seen.heard.complete, "the client has its answer by then"
            await clock.advance(2)


# -- the application ends ----------------------------------------------------------------------------------------------


async def test_an_error_before_the_start_is_the_host_s() -> None:
    plane = ScriptedPlane()
    error = LookupError("mine")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    with pytest.raises(LookupError) as caught:
        await seen.run()
    assert caught.value is error
    assert seen.heard.messages == []
    assert outcomes(plane) == [OutcomeStatus.UPSTREAM_ERROR]


@pytest.mark.parametrize("said", [[], [piece(b"data: a\n\n")]])
async def test_an_error_after_the_start_ends_the_answer_and_is_raised(said: list[dict[str, Any]]) -> None:
    plane = ScriptedPlane()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in [START, *said]:
            await send(message)
        raise LookupError("mine")

    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    with pytest.raises(LookupError):
        await seen.run()
    assert seen.heard.complete
    assert seen.heard.status == (200 if said else 502)
    assert b"upstream_error" in seen.heard.body
    assert plane.streams[0].failed == [(502, "upstream_error")]
    assert len(plane.closed) == 1


@pytest.mark.parametrize("said", [0, 1, 2])
@pytest.mark.parametrize("covers", [True, False])
async def test_an_application_that_stops_early_still_ends_well(said: int, covers: bool) -> None:
    plane = ScriptedPlane(decide=lambda body: RequestDecision(body, covers_response=covers))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in [START, piece(b"data: a\n\n")][:said]:
            await send(message)

    heard = await visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    assert heard.complete
    assert heard.status == (200 if said == 2 or (said == 1 and not covers) else 502)
    assert len(plane.closed) == 1


async def test_errors_of_any_kind_come_out_as_they_are() -> None:
    class Odd(BaseException):
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise Odd

    with pytest.raises(Odd):
        await visit(GuardMiddleware(app, guard=ScriptedGuard()))


async def test_an_error_of_the_plane_ends_the_answer() -> None:
    class Broken(ScriptedStream):
        async def take(self, data: bytes, *, last: bool) -> Release:
            raise LookupError("plane")

    plane = ScriptedPlane(Broken)
    seen = Visit(GuardMiddleware(Speaker(b"data: a\n\n"), guard=ScriptedGuard(plane)))
    with pytest.raises(LookupError):
        await seen.run()
    assert b"data: a" not in seen.heard.body
    assert seen.heard.complete
    assert len(plane.closed) == 1


async def test_an_error_while_deciding_the_request_never_opens_the_gate() -> None:
    def decide(body: bytes) -> RequestDecision:
        raise LookupError("plane")

    app, plane = Speaker(b"x"), ScriptedPlane(decide=decide)
    with pytest.raises(LookupError):
        await visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    assert app.scopes == []
    assert len(plane.closed) == 1


async def test_an_error_of_a_pending_verdict_ends_the_answer() -> None:
    class Broken(Pending):
        async def judge(self) -> None:
            raise LookupError("judge")

    plane, clock = ScriptedPlane(Broken), VirtualClock()
    seen = Visit(
        GuardMiddleware(Speaker(b"data: a\n\n", b"data: ?\n\n"), guard=ScriptedGuard(plane, clock=clock))
    )
    caught = []

    async def run() -> None:
        try:
            await seen.run()
        except LookupError as error:
            caught.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await clock.advance(1)
    assert b"?" not in seen.heard.body
    assert seen.heard.complete
    assert len(caught) == 1
    assert len(plane.closed) == 1


async def test_a_background_task_runs_on_after_a_complete_answer() -> None:
    plane, clock = ScriptedPlane(), VirtualClock()
    go, done = anyio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"data: a\n\n", more=False))
        await go.wait()
        done.append((await receive())["type"])
        done.append((await receive())["type"])

    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=clock)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.rest()
        assert seen.heard.complete
        assert outcomes(plane) == [None], "the record does not wait for it either"
        await clock.advance(10_000)
        go.set()
    assert done == ["http.request", "http.disconnect"]
    assert len(plane.closed) == 1


async def test_an_error_of_a_background_task_is_the_host_s() -> None:
    plane = ScriptedPlane()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Speaker(b"data: a\n\n")(scope, receive, send)
        raise LookupError("later")

    with pytest.raises(LookupError):
        await visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    assert outcomes(plane) == [None]


async def test_context_variables_survive_in_both_directions() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    inside = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inside.append(variable.get())
        variable.set("from inside")
        await Speaker(b"data: a\n\n")(scope, receive, send)

    variable.set("from outside")
    await visit(GuardMiddleware(app, guard=ScriptedGuard()))
    assert inside == ["from outside"]
    assert variable.get() == "from inside"


# -- verdicts that wait ------------------------------------------------------------------------------------------------


async def test_the_application_is_done_before_the_last_verdict_is() -> None:
    plane, clock = ScriptedPlane(Pending), VirtualClock()
    seen = Visit(
        GuardMiddleware(
            Speaker(b"data: a\n\n", b"data: ?\n\n", b"data: c\n\n"), guard=ScriptedGuard(plane, clock=clock)
        )
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.rest()
        assert seen.heard.body == b"data: a\n\n"
        assert plane.closed == []
        plane.streams[0].verdict.set()  # type: ignore[attr-defined]
    assert seen.heard.body == b"data: a\n\ndata: ?\n\ndata: c\n\n"
    assert outcomes(plane) == [None]


async def test_keepalives_while_a_verdict_is_pending() -> None:
    plane, clock = ScriptedPlane(Pending), VirtualClock()
    guard = ScriptedGuard(plane, clock=clock, limits=Limits(keepalive_interval=15))
    seen = Visit(GuardMiddleware(Speaker(b"data: ?\n\n"), guard=guard))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(14)
        assert seen.heard.messages == [], "nothing is sent before something has to be"
        await clock.advance(2)
        assert seen.heard.status == 200
        assert seen.heard.body == b": keep-alive\n\n"
        await clock.advance(30)
        assert seen.heard.body == b": keep-alive\n\n" * 3
        plane.streams[0].verdict.set()  # type: ignore[attr-defined]
    assert seen.heard.body == b": keep-alive\n\n" * 3 + b"data: ?\n\n"


async def test_no_keepalives_into_a_body_that_is_not_a_stream() -> None:
    plane, clock = ScriptedPlane(Pending), VirtualClock()
    seen = Visit(
        GuardMiddleware(Speaker(b'{"a":"?"}', headers=JSON), guard=ScriptedGuard(plane, clock=clock))
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(100)
        assert seen.heard.messages == []
        plane.streams[0].verdict.set()  # type: ignore[attr-defined]
    assert seen.heard.headers[b"content-length"] == b"9"


# -- deadlines ---------------------------------------------------------------------------------------------------------


class Stalling:
    """Says `messages`, then nothing."""

    def __init__(self, *messages: dict[str, Any], shield: bool = False) -> None:
        self.messages = messages
        self.shield = shield
        self.cancelled = False
        self.leave = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for message in self.messages:
            await send(message)
        try:
            with anyio.CancelScope(shield=self.shield):
                await self.leave.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise


async def timed(
    app: Callable[..., Any],
    seconds: float,
    *,
    limits: Limits,
    stream: Any = ScriptedStream,
    settled: Any = None,
) -> tuple[Visit, ScriptedPlane]:
    """Run an exchange and let `seconds` pass."""
    plane, clock = ScriptedPlane(stream), VirtualClock()
    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=clock, limits=limits)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(seconds)
        if settled is not None:
            settled(seen, plane)
        tasks.cancel_scope.cancel()
    return seen, plane


LIMITS = Limits(idle_timeout=120, total_timeout=1000)


async def test_a_silent_upstream_is_ended_in_band() -> None:
    app = Stalling(START, piece(b"data: a\n\n"))

    def settled(seen: Visit, plane: ScriptedPlane) -> None:
        assert seen.heard.body == b'data: a\n\ndata: {"error":{"code":"idle_timeout"}}\n\n'
        assert seen.heard.complete
        assert len(plane.closed) == 1

    _, plane = await timed(app, 121, limits=LIMITS, settled=settled)
    assert app.cancelled
    assert plane.streams[0].failed == [(504, "idle_timeout")]


async def test_it_is_not_before_its_time() -> None:
    def settled(seen: Visit, plane: ScriptedPlane) -> None:
        assert seen.heard.body == b"data: a\n\n"
        assert plane.closed == []

    await timed(Stalling(START, piece(b"data: a\n\n")), 119, limits=LIMITS, settled=settled)


async def test_an_answer_that_never_begins_gets_504_after_the_total() -> None:
    def settled(seen: Visit, plane: ScriptedPlane) -> None:
        assert seen.heard.status == 504
        assert seen.heard.body == b'{"error":{"code":"total_timeout"}}'
        assert seen.heard.complete

    await timed(Stalling(), 1001, limits=LIMITS, settled=settled)


async def test_an_application_stuck_in_a_thread_does_not_delay_the_answer() -> None:
    app = Stalling(START, piece(b"data: a\n\n"), shield=True)

    def settled(seen: Visit, plane: ScriptedPlane) -> None:
        assert seen.heard.complete
        assert len(plane.closed) == 1
        app.leave.set()

    await timed(app, 125, limits=LIMITS, settled=settled)


async def test_a_steady_stream_may_last_until_the_total() -> None:
    clock, plane = VirtualClock(), ScriptedPlane()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for _ in range(9):
            with clock.until(clock() + 100):
                await anyio.sleep_forever()
            await send(piece(b"data: a\n\n"))
        await send(piece(b"", more=False))

    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=clock, limits=LIMITS)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(950)
    assert seen.heard.body == b"data: a\n\n" * 9
    assert outcomes(plane) == [None]


class Hanging(ScriptedStream):
    """A hook hangs at "!"; it is overdue once `late` says so."""

    async def take(self, data: bytes, *, last: bool) -> Release:
        if b"!" in data:
            self.late = "slow.on_content_chunk"
            await anyio.sleep_forever()
        return await super().take(data, last=last)


async def test_a_hook_that_hangs_in_place_ends_the_answer_within_half_a_second() -> None:
    app = Stalling(START, piece(b"data: a\n\n"), piece(b"data: !\n\n"))

    def settled(seen: Visit, plane: ScriptedPlane) -> None:
        assert seen.heard.complete
        assert b"!" not in seen.heard.body

    _, plane = await timed(app, 0.6, limits=LIMITS, stream=Hanging, settled=settled)
    assert plane.streams[0].failed == [(504, "policy_timeout")]


async def test_a_pending_verdict_that_is_overdue_ends_the_answer() -> None:
    class Late(Pending):
        async def judge(self) -> None:
            self.late = "judge.on_tool_call_completed"
            await anyio.sleep_forever()

    def settled(seen: Visit, plane: ScriptedPlane) -> None:
        assert seen.heard.complete
        assert seen.heard.body.startswith(b"data: a\n\n")
        assert b"?" not in seen.heard.body

    await timed(Speaker(b"data: a\n\n", b"data: ?\n\n"), 1, limits=LIMITS, stream=Late, settled=settled)


async def test_a_client_that_stops_reading_is_left_after_the_total() -> None:
    plane, clock = ScriptedPlane(), VirtualClock()

    def block(message: dict[str, Any]) -> Any:
        return anyio.sleep_forever() if message["type"] == "http.response.body" else None

    seen = Visit(
        GuardMiddleware(Speaker(b"data: a\n\n"), guard=ScriptedGuard(plane, clock=clock, limits=LIMITS)),
        on_send=block,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(999)
        assert plane.closed == []
        await clock.advance(20)
        assert len(plane.closed) == 1
    assert not seen.heard.complete or seen.heard.messages[-1]["body"] != b""


async def test_a_decision_that_never_comes_gets_504() -> None:
    async def decide(body: bytes) -> RequestDecision:
        await anyio.sleep_forever()
        raise AssertionError

    clock = VirtualClock()
    plane = ScriptedPlane(decide=decide)
    app = Speaker(b"x")
    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=clock, limits=LIMITS)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(1001)
    assert seen.heard.status == 504
    assert app.scopes == []
    assert outcomes(plane) == [OutcomeStatus.TIMEOUT]


async def test_an_uncovered_answer_has_a_total_too() -> None:
    plane, clock = (
        ScriptedPlane(decide=lambda body: RequestDecision(body, covers_response=False)),
        VirtualClock(),
    )
    app = Stalling(START, piece(b"data: a\n\n"))
    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=clock, limits=LIMITS)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(1001)
    assert seen.heard.complete
    assert app.cancelled
    assert outcomes(plane) == [OutcomeStatus.TIMEOUT]
