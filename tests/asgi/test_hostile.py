"""Clients, servers and applications at their worst: the exchange ends, once, and says what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from anyio.lowlevel import checkpoint

from luthien_guard.asgi import GuardMiddleware
from luthien_guard.asgi.routes import _ABSOLUTE, Routes
from luthien_guard.control_plane.service import Release, RequestDecision, StreamingContext
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.gateway.vigil import kept
from luthien_guard.limits import Limits
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.plane import ScriptedGuard, ScriptedPlane, ScriptedStream
from tests.asgi.host import JSON, SSE, Speaker, Visit, visit, whole

pytestmark = pytest.mark.anyio

START = {"type": "http.response.start", "status": 200, "headers": SSE}
LIMITS = Limits(idle_timeout=120, total_timeout=1000, close_timeout=5)


def piece(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def outcomes(plane: ScriptedPlane) -> list[OutcomeStatus | None]:
    return [outcome.status if outcome is not None else None for _, outcome in plane.closed]


def is_body(message: dict[str, Any]) -> bool:
    return message["type"] == "http.response.body"


def is_last(message: dict[str, Any]) -> bool:
    return is_body(message) and not message["more_body"]


def raising(error: Exception, when: Callable[[dict[str, Any]], bool]) -> Callable[[dict[str, Any]], None]:
    def on_send(message: dict[str, Any]) -> None:
        if when(message):
            raise error

    return on_send


class Judged(ScriptedStream):
    """Whatever has "?" in it waits for `verdict`; then `said` is released, or what waited. "!" ends the answer."""

    def __init__(self, context: StreamingContext, said: Release | None = None) -> None:
        super().__init__(context)
        self.verdict = anyio.Event()
        self.asked = anyio.Event()
        self.said = said
        self.held: list[bytes] = []

    async def take(self, data: bytes, *, last: bool) -> Release:
        if b"!" in data:
            return Release(items=((b"data: blocked\n\n", None),), done=True)
        if data and (self.held or b"?" in data):
            self.held.append(data)
        if not self.held:
            return await super().take(data, last=last)
        if not self.verdict.is_set():
            return Release(pending=int(b"?" in data), held=1)
        free, self.held = tuple((each, None) for each in self.held), []
        return self.said or Release(items=free)

    async def judge(self) -> None:
        self.asked.set()
        await self.verdict.wait()


def judged(plane: ScriptedPlane, at: int = 0) -> Judged:
    stream = plane.streams[at]
    assert isinstance(stream, Judged)
    return stream


# -- paths -------------------------------------------------------------------------------------------------------------

ROUTES = Routes(ScriptedGuard().formats, {"/api/Chat": "openai.chat"})


def found(path: str, raw: bytes | None = None, root: str = "") -> str:
    route = ROUTES.match({"path": path, "root_path": root, "method": "POST", "raw_path": raw})
    return "open" if route is None else "refused" if route.refusal else "guarded"


LONG = "x" * 60_000
SPELLED = [
    "/v1/messages",
    "/v1/mes%2573ages",
    "/v1/MES\u200bSAGES",
    "/chat;a=b/completions",
    "\\responses",
    "/api//chat",
]


@pytest.mark.parametrize("end", SPELLED)
@pytest.mark.parametrize("front", ["/" + LONG, "/" + "%41" * 20_000, "/http://" + LONG, "/" + "//;" * 20_000])
def test_a_long_path_that_could_lead_to_a_guarded_route_is_refused(front: str, end: str) -> None:
    assert found(front + end) == "refused"
    assert found("/", quote(front + end, safe="/%;:\\").encode()) == "refused"
    assert found(end, root=front) in ("guarded", "refused")


def test_a_long_path_to_somewhere_else_is_open() -> None:
    assert found("/" + LONG) == "open"
    assert found("/v1/models", b"/v1/models?" + b"messages" * 10_000) == "open"


def test_a_run_of_letters_is_searched_for_a_scheme_once() -> None:
    """From each of its letters on, a path that is all letters would keep the process busy for minutes."""
    assert _ABSOLUTE.match("http://evil")
    assert not _ABSOLUTE.match("http://evil", 1)


@pytest.mark.parametrize("front", ["/tenant?", "/tenant#", "/x:/", "/a/b1:/", "/a?b/.."])
def test_what_only_some_readers_drop_hides_nothing(front: str) -> None:
    """To an application that takes any tenant, this is a tenant like any other."""
    assert found(front + "/chat/completions") == "refused"


# -- the end of an answer ----------------------------------------------------------------------------------------------


class SlowClient:
    """Takes the last message when `gate` opens."""

    def __init__(self) -> None:
        self.waits = anyio.Event()
        self.gate = anyio.Event()
        self.taken: list[bytes] = []

    def __call__(self, message: dict[str, Any]) -> Any:
        return self._wait(message) if is_last(message) else None

    async def _wait(self, message: dict[str, Any]) -> None:
        self.waits.set()
        await self.gate.wait()
        self.taken.append(message["body"])


@pytest.mark.parametrize("ends", [True, False])
async def test_the_end_of_a_blocked_answer_is_not_cut_off_by_an_application_that_returns(ends: bool) -> None:
    blocked = Release(items=((b"data: blocked\n\n", None),), done=True)
    plane, client, clock = (
        ScriptedPlane(lambda context: Judged(context, blocked)),
        SlowClient(),
        VirtualClock(),
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"data: ?\n\n"))
        with anyio.CancelScope(shield=True):
            await client.waits.wait()
            if ends:
                await send(piece(b"", more=False))

    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=clock)), on_send=client)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.rest()
        judged(plane).verdict.set()
        await clock.rest()
        assert plane.closed == []
        client.gate.set()
    assert client.taken == [b"data: blocked\n\n"]
    assert outcomes(plane) == [None]
    assert plane.streams[0].failed == []


@pytest.mark.parametrize("end", [True, False], ids=["several messages", "one message"])
@pytest.mark.parametrize("swallows", [True, False])
async def test_a_server_that_fails_at_the_end_ends_the_exchange(end: bool, swallows: bool) -> None:
    plane = ScriptedPlane()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(START)
            await send(piece(b"data: a\n\n", more=end))
            if end:
                await send(piece(b"", more=False))
        except RuntimeError:
            if not swallows:
                raise

    seen = Visit(
        GuardMiddleware(app, guard=ScriptedGuard(plane)), on_send=raising(RuntimeError("illegal"), is_last)
    )
    with anyio.fail_after(10):
        if swallows:
            await seen.run()
        else:
            with pytest.raises(RuntimeError, match="illegal"):
                await seen.run()
    assert outcomes(plane) == [OutcomeStatus.UPSTREAM_ERROR]


async def test_it_does_where_the_stream_lane_writes_the_end() -> None:
    plane, clock = ScriptedPlane(Judged), VirtualClock()
    seen = Visit(
        GuardMiddleware(Speaker(b"data: ?\n\n"), guard=ScriptedGuard(plane, clock=clock)),
        on_send=raising(RuntimeError("illegal"), is_last),
    )
    with anyio.fail_after(10), pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            await clock.rest()
            judged(plane).verdict.set()
            await clock.advance(1)
    assert caught.group_contains(RuntimeError, match="illegal")
    assert outcomes(plane) == [OutcomeStatus.UPSTREAM_ERROR]


class Broken(ScriptedStream):
    """Fails at the end of the body."""

    async def take(self, data: bytes, *, last: bool) -> Release:
        if last:
            raise LookupError("the guard's")
        return await super().take(data, last=last)


class Ruined(Broken):
    async def fail(self, status: int, code: str, message: str) -> Release:
        raise ValueError("this as well")


@pytest.mark.parametrize("said", [0, 1])
async def test_a_guard_that_fails_at_the_end_ends_the_answer(said: int) -> None:
    plane = ScriptedPlane(Broken)
    seen = Visit(GuardMiddleware(Speaker(*[b"data: a\n\n"] * said), guard=ScriptedGuard(plane)))
    with anyio.fail_after(10), pytest.raises(LookupError):
        await seen.run()
    assert seen.heard.complete
    assert plane.streams[0].failed == [(500, "internal_error")]
    assert len(plane.closed) == 1


@pytest.mark.parametrize("said", [0, 1])
async def test_a_guard_that_cannot_even_say_so_ends_it_without_words(said: int) -> None:
    plane = ScriptedPlane(Ruined)
    seen = Visit(GuardMiddleware(Speaker(*[b"data: a\n\n"] * said), guard=ScriptedGuard(plane)))
    with anyio.fail_after(10), pytest.raises(LookupError):
        await seen.run()
    assert seen.heard.complete
    assert seen.heard.status == (200 if said else 500)
    assert outcomes(plane) == [OutcomeStatus.POLICY_ERROR]


async def test_a_guard_that_fails_beside_the_application_ends_it_without_words_too() -> None:
    class Both(Ruined, Judged):
        async def judge(self) -> None:
            raise LookupError("the guard's")

    plane, clock = ScriptedPlane(Both), VirtualClock()
    seen = Visit(GuardMiddleware(Speaker(b"data: ?\n\n"), guard=ScriptedGuard(plane, clock=clock)))
    with anyio.fail_after(10), pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            await clock.advance(1)
    assert caught.group_contains(LookupError)
    assert seen.heard.complete
    assert outcomes(plane) == [OutcomeStatus.POLICY_ERROR]


@pytest.mark.parametrize("judge", [True, False], ids=["stream lane", "direct lane"])
async def test_a_last_write_that_never_returns_is_left_after_the_total(judge: bool) -> None:
    plane, client, clock = ScriptedPlane(Judged), SlowClient(), VirtualClock()
    seen = Visit(
        GuardMiddleware(
            Speaker(b"data: ?\n\n" if judge else b"data: a\n\n"),
            guard=ScriptedGuard(plane, clock=clock, limits=LIMITS),
        ),
        on_send=client,
    )
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            await clock.rest()
            judged(plane).verdict.set()
            await clock.advance(990)
            assert client.waits.is_set()
            assert plane.closed == [], "until then it may only be slow"
            await clock.advance(30)
    assert client.taken == []
    assert outcomes(plane) == [OutcomeStatus.TIMEOUT]


async def test_a_disconnect_within_a_last_write_that_never_returns_changes_nothing() -> None:
    plane, client, clock = ScriptedPlane(Judged), SlowClient(), VirtualClock()
    guard = ScriptedGuard(plane, clock=clock, limits=LIMITS)
    seen = Visit(GuardMiddleware(Speaker(b"data: ?\n\n"), guard=guard), on_send=client)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            await clock.rest()
            judged(plane).verdict.set()
            await clock.rest()
            seen.gone.set()
            await clock.advance(1020)
    assert outcomes(plane) == [OutcomeStatus.TIMEOUT]


@pytest.mark.parametrize("end", [True, False], ids=["several messages", "one message"])
@pytest.mark.parametrize(
    "when", [is_last, lambda message: not is_body(message)], ids=["at the end", "at the start"]
)
async def test_a_client_that_is_gone_at_the_end_is_no_success(
    end: bool, when: Callable[[dict[str, Any]], bool]
) -> None:
    plane = ScriptedPlane()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"data: a\n\n", more=end))
        if end:
            await send(piece(b"", more=False))

    guard = ScriptedGuard(plane)
    await Visit(GuardMiddleware(app, guard=guard), on_send=raising(OSError("gone"), when)).run()
    assert outcomes(plane) == [OutcomeStatus.CANCELLED]


async def test_nor_where_there_is_no_body() -> None:
    plane = ScriptedPlane()
    app = GuardMiddleware(Speaker(status=204), guard=ScriptedGuard(plane))
    await Visit(app, on_send=raising(OSError("gone"), is_last)).run()
    assert outcomes(plane) == [OutcomeStatus.CANCELLED]


# -- the application ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytearray, memoryview])
@pytest.mark.parametrize("covers", [True, False])
@pytest.mark.parametrize("body", [b"data: a\n\n", b'{"a":1}'])
async def test_bodies_may_be_any_bytes(kind: Callable[[bytes], Any], covers: bool, body: bytes) -> None:
    plane = ScriptedPlane(decide=lambda sent: RequestDecision(sent, covers_response=covers))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for at in range(len(body)):
            await send(piece(kind(body[at : at + 1])))
        await send(piece(kind(b""), more=False))

    heard = await visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    assert heard.body == body
    assert heard.complete
    assert all(type(each) is bytes for stream in plane.streams for each in stream.fed)


@pytest.mark.parametrize("body", [5, "text"])
async def test_anything_else_is_the_application_s_error(body: Any) -> None:
    plane = ScriptedPlane()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(body, more=False))

    with anyio.fail_after(10), pytest.raises(TypeError):
        await visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    assert len(plane.closed) == 1


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("covers", [True, False])
@pytest.mark.parametrize("before", [0, 1], ids=["the first exchange", "the second"])
async def test_the_first_error_is_the_one_that_is_told(raises: bool, covers: bool, before: int) -> None:
    """The server does not take the end that an answer is given which is shorter than it said."""
    plane = ScriptedPlane(decide=lambda body: RequestDecision(body, covers_response=covers))
    short = False

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        await send(START)
        await send(piece(b"data: a\n\n", more=short))
        if short and raises:
            raise ValueError("the application's own")

    middleware = GuardMiddleware(app, guard=ScriptedGuard(plane))
    for _ in range(before):
        await visit(middleware)
    short = True
    seen = Visit(middleware, on_send=raising(RuntimeError("shorter"), is_last))
    with anyio.fail_after(10), pytest.raises(ValueError if raises else RuntimeError):
        await seen.run()
    assert outcomes(plane)[before:] == [OutcomeStatus.UPSTREAM_ERROR]


async def test_an_error_that_the_application_swallows_closes_the_record_where_nobody_looks() -> None:
    plane = ScriptedPlane(decide=lambda body: RequestDecision(body, covers_response=False))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        await send(START)
        try:
            await send(piece(b"data: a\n\n", more=False))
        except RuntimeError:
            return

    middleware = GuardMiddleware(app, guard=ScriptedGuard(plane))
    await visit(middleware)
    await Visit(middleware, on_send=raising(RuntimeError("illegal"), is_last)).run()
    assert outcomes(plane) == [None, OutcomeStatus.UPSTREAM_ERROR]


async def test_a_send_that_the_application_gives_up_ends_the_answer() -> None:
    class Hanging(ScriptedStream):
        async def take(self, data: bytes, *, last: bool) -> Release:
            if b"!" in data:
                await anyio.sleep_forever()
            return await super().take(data, last=last)

    plane, given_up = ScriptedPlane(Hanging), anyio.CancelScope()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with given_up:
            given_up.cancel()
            await send(piece(b"data: !\n\n"))
        await send(piece(b"", more=False))

    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    with anyio.fail_after(10):
        await seen.run()
    assert seen.heard.complete
    assert plane.streams[0].failed == [(502, "upstream_error")]
    assert len(plane.closed) == 1


# -- beside the application --------------------------------------------------------------------------------------------


class Replayed:
    """A `receive` that says the body for ever, as middleware that has read it may."""

    def __init__(self, body: bytes = b"{}") -> None:
        self.body = body
        self.asked = anyio.Event()
        self.calls = 0

    async def __call__(self) -> dict[str, Any]:
        self.calls += 1
        assert self.calls < 1000, "nobody else gets to run"
        self.asked.set()
        return {"type": "http.request", "body": self.body, "more_body": False}


async def test_a_body_that_is_said_for_ever_stops_nobody() -> None:
    plane, receive = ScriptedPlane(), Replayed()
    seen = Visit(GuardMiddleware(Speaker(b"data: a\n\n"), guard=ScriptedGuard(plane)))
    await seen.app(seen.scope, receive, seen.send)
    assert seen.heard.complete
    assert outcomes(plane) == [None]


async def test_nor_the_work_of_a_gateway() -> None:
    receive, done = Replayed(), []

    async def work(_: anyio.CancelScope) -> None:
        await receive.asked.wait()
        for _ in range(100):
            await checkpoint()
        done.append(True)

    assert await kept(work, receive, lambda: 100.0, 100.0)
    assert done == [True]


async def test_a_judge_is_not_waited_for_when_the_answer_has_ended() -> None:
    plane, left = ScriptedPlane(Judged), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"data: ?\n\n"))
        await judged(plane).asked.wait()
        try:
            await send(piece(b"data: !\n\n"))
            await anyio.sleep_forever()
        finally:
            left.append(True)

    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane)))
    with anyio.fail_after(10):
        await seen.run()
    assert seen.heard.body == b"data: blocked\n\n"
    assert outcomes(plane) == [None]
    assert left == [True]


async def test_a_judge_s_retry_is_heard_after_the_application_has_ended() -> None:
    def stream(context: StreamingContext) -> ScriptedStream:
        return (
            Judged(context, Release(done=True, retry=b'{"again":1}'))
            if not context.attempt
            else ScriptedStream(context)
        )

    plane, clock, app = ScriptedPlane(stream), VirtualClock(), Speaker(b'{"a":"?"}', headers=JSON)
    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=clock)))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            await clock.rest()
            judged(plane).verdict.set()
    assert app.bodies == [b"{}", b'{"again":1}']
    assert seen.heard.body == b'{"a":"?"}'
    assert outcomes(plane) == [None]


async def test_upstream_that_speaks_to_a_busy_guard_is_not_idle() -> None:
    class Busy(Judged):
        async def take(self, data: bytes, *, last: bool) -> Release:
            if b"slow" in data:
                await self.verdict.wait()
            return await super().take(data, last=last)

    plane, clock = ScriptedPlane(Busy), VirtualClock()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"data: ?\n\n"))
        await send(piece(b"data: slow\n\n"))
        await clock.rest()
        for _ in range(9):
            await send(piece(b"data: a\n\n"))
            with clock.until(clock() + 1.5):
                await anyio.sleep_forever()
        judged(plane).verdict.set()
        await send(piece(b"", more=False))

    limits = Limits(idle_timeout=2, total_timeout=1000)
    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=clock, limits=limits)))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            await clock.advance(14)
    assert plane.streams[0].failed == []
    assert (
        seen.heard.body.replace(b": keep-alive\n\n", b"") == b"data: ?\n\ndata: slow\n\n" + b"data: a\n\n" * 9
    )
    assert outcomes(plane) == [None]


async def test_silence_shorter_than_a_keepalive_interval_is_noticed_in_time() -> None:
    plane, clock = ScriptedPlane(), VirtualClock()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"data: a\n\n"))
        await anyio.sleep_forever()

    limits = Limits(idle_timeout=2, keepalive_interval=15)
    seen = Visit(GuardMiddleware(app, guard=ScriptedGuard(plane, clock=clock, limits=limits)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(3)
        assert plane.streams[0].failed == [(504, "idle_timeout")]
        assert seen.heard.complete


async def test_an_error_within_a_keepalive_ends_the_exchange() -> None:
    class Odd(Exception):
        pass

    plane, clock = ScriptedPlane(Judged), VirtualClock()
    seen = Visit(
        GuardMiddleware(Speaker(b"data: ?\n\n"), guard=ScriptedGuard(plane, clock=clock)),
        on_send=raising(Odd(), lambda message: is_body(message) and message["body"].startswith(b":")),
    )
    with anyio.fail_after(10), pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            await clock.advance(20)
            assert len(plane.closed) == 1
    assert caught.group_contains(Odd, depth=1)
    assert seen.heard.complete
    assert plane.streams[0].failed == [(502, "upstream_error")]


# -- answers without a body --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"OK"])
async def test_a_preflight_is_answered_by_its_headers(body: bytes) -> None:
    plane = ScriptedPlane()
    headers = [(b"access-control-allow-origin", b"*"), (b"content-length", b"%d" % len(body))]
    app = GuardMiddleware(Speaker(body, headers=headers), guard=ScriptedGuard(plane))
    heard = await visit(app, body=b"", method="OPTIONS")
    assert (heard.status, heard.body, heard.complete) == (200, b"", True)
    assert heard.headers[b"access-control-allow-origin"] == b"*"
    assert heard.headers[b"content-length"] == b"0"
    assert plane.streams == []
    assert plane.facts == ([("body.dropped", {"status": 200})] if body else [])
    assert outcomes(plane) == [None]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_a_refusal_without_a_body_is_no_success(method: str) -> None:
    plane = ScriptedPlane()
    app = GuardMiddleware(Speaker(status=405, headers=JSON), guard=ScriptedGuard(plane))
    assert (await visit(app, body=b"", method=method)).status == 405
    assert outcomes(plane) == [OutcomeStatus.UPSTREAM_ERROR]


async def test_a_body_that_nobody_may_see_is_noted_once() -> None:
    plane = ScriptedPlane()
    await visit(GuardMiddleware(Speaker(b"a", b"b", b"c", status=204), guard=ScriptedGuard(plane)))
    assert plane.facts == [("body.dropped", {"status": 204})]
