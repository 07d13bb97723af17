"""The middleware over the real engine: the lanes, a hanging hook, a retry, keep-alives."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- trio's tasks cannot be cancelled from within
import json
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from luthien_guard import (
    Block,
    ContentChunk,
    Guard,
    GuardMiddleware,
    Policy,
    PolicyContext,
    ResponseCompleted,
    Retry,
    ToolCall,
    hookimpl,
)
from luthien_guard.errors import ConfigError
from luthien_guard.limits import Limits
from luthien_guard.records import EventType
from luthien_guard.testing.clock import VirtualClock
from tests.asgi.host import JSON, SSE, Visit, visit

pytestmark = pytest.mark.anyio

ASK = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def call(index: int, name: str) -> bytes:
    function = {"name": name, "arguments": "{}"}
    return chunk(
        {"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function", "function": function}]}
    )


DONE = b"data: [DONE]\n\n"
TEXT = [chunk({"role": "assistant", "content": "look: "}), chunk({"content": "calls"})]
CALLS = [*TEXT, call(0, "first"), call(1, "second"), chunk({}, "tool_calls"), DONE]


def saying(pieces: list[bytes], headers: list[tuple[bytes, bytes]] = SSE, status: int = 200) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


class Asking(Policy):
    """Waits for somebody about every tool call; instances share nothing but what the test gives them."""

    waits = True

    def __init__(self, verdicts: tuple[tuple[str, anyio.Event], ...], blocked: str = "") -> None:
        self.verdicts = verdicts
        self.blocked = blocked

    @hookimpl
    async def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        await dict(self.verdicts)[call.name].wait()
        return Block("no") if call.name == self.blocked else None


async def test_verdicts_that_wait_keep_the_order_and_the_bytes() -> None:
    clock = VirtualClock()
    verdicts = tuple((name, anyio.Event()) for name in ("first", "second"))
    guard = Guard([Asking(verdicts)], clock=clock, limits=Limits(hook_timeout=10_000))
    seen = Visit(GuardMiddleware(saying(CALLS), guard=guard), body=ASK)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.rest()
        assert seen.heard.body == b"".join(TEXT)
        await clock.advance(16)
        assert seen.heard.body.startswith(b"".join(TEXT) + b":"), "a keep-alive"
        dict(verdicts)["second"].set()
        await clock.rest()
        assert b"second" not in seen.heard.body
        dict(verdicts)["first"].set()
    sent = [m["body"] for m in seen.heard.messages[1:] if not m["body"].startswith(b":")]
    assert b"".join(sent) == b"".join(CALLS)
    assert seen.heard.complete


async def test_a_blocked_call_does_not_leave() -> None:
    verdicts = tuple((name, anyio.Event()) for name in ("first", "second"))
    for _, event in verdicts:
        event.set()
    guard = Guard([Asking(verdicts, "second")], clock=VirtualClock())
    heard = await visit(GuardMiddleware(saying(CALLS), guard=guard), body=ASK)
    assert b'"first"' in heard.body
    assert b'"second"' not in heard.body
    assert heard.body.endswith(DONE)


@pytest.mark.parametrize("given", [[], "noop", Guard])
def test_what_is_no_guard_is_told_at_once(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"guard is a \w+: give a Guard\(\.\.\.\)"):
        GuardMiddleware(saying(CALLS), guard=given)


@pytest.mark.parametrize("where", ["the request", "the answer"])
@pytest.mark.parametrize("asked", [False, True])
async def test_a_block_tells_usage_in_a_chunk_of_its_own_only_where_it_was_asked_for(
    asked: bool, where: str
) -> None:
    """It has no choices: the loop of every tutorial, `chunk.choices[0].delta.content`, breaks on it."""
    words = {
        "use": "default-limits",
        "config": {"forbidden_words": ["calls" if where == "the answer" else "hi"]},
    }
    body = {**json.loads(ASK), "stream_options": {"include_usage": asked}}
    heard = await visit(GuardMiddleware(saying(CALLS), guard=Guard([words])), body=json.dumps(body).encode())
    frames = [frame.removeprefix(b"data: ") for frame in heard.body.split(b"\n\n") if frame]
    told = [bool(json.loads(frame)["choices"]) for frame in frames[:-1]]
    assert "⛔".encode() in heard.body
    assert told == [True] * (len(told) - asked) + [False] * asked


@pytest.mark.parametrize("mode", ["observe", "enforce"])
async def test_an_encoding_that_nobody_can_undo_stops_who_enforces(mode: Any) -> None:
    guard = Guard([Asking((), "first")], mode=mode)
    headers = [*SSE, (b"content-encoding", b"aws-chunked")]
    heard = await visit(GuardMiddleware(saying(CALLS, headers), guard=guard), body=ASK)
    records = guard.records_of(guard.recent_calls[-1])
    noted = [record.details for record in records if record.details.get("event") == "body.unread"]
    if mode == "enforce":
        assert (heard.status, noted) == (502, [])
        assert b"uninspectable_response" in heard.body
    else:
        assert (heard.status, heard.body) == (200, b"".join(CALLS))
        assert len(noted) == 1
        assert "aws-chunked" in noted[0]["reason"]
        assert records[-1].details["outcome"] == "success"


class Ponders(Policy):
    waits = True

    def __init__(self, answer: anyio.Event) -> None:
        self._answer = answer

    @hookimpl
    async def on_content_completed(self) -> Block:
        await self._answer.wait()
        return Block("too late to have a say")

    @hookimpl
    async def on_response_completed(self, ctx: PolicyContext) -> None:
        ctx.record("heard the end")


BODY = (
    b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"so"},"finish_reason":"stop"}]}'
)


@pytest.mark.parametrize("pieces", [CALLS, [BODY]], ids=["stream", "body"])
@pytest.mark.parametrize("how", ["it answers", "the server cancels"])
async def test_an_answer_does_not_end_later_for_a_shadow(pieces: list[bytes], how: str) -> None:
    answer = anyio.Event()
    guard = Guard([{"use": Ponders(answer), "mode": "shadow"}])
    seen = Visit(GuardMiddleware(saying(pieces, SSE if pieces is CALLS else JSON), guard=guard), body=ASK)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            await seen.gone.wait()
            await anyio.wait_all_tasks_blocked()
            assert seen.heard.body == b"".join(pieces)
            assert (b"content-length" in seen.heard.headers) == (pieces is not CALLS)
            records = guard.records_of(guard.recent_calls[-1])
            assert records[-1].type is not EventType.CLOSED
            answer.set() if how == "it answers" else tasks.cancel_scope.cancel()
    records = guard.records_of(guard.recent_calls[-1])
    assert records[-1].details["outcome"] == "success"
    found = [record.type for record in records if record.type in (EventType.VERDICT, EventType.POLICY_RECORD)]
    assert found == ([EventType.VERDICT, EventType.POLICY_RECORD] if how == "it answers" else [])


async def test_an_answer_that_the_client_has_is_no_time_out_for_a_shadow() -> None:
    clock, answer = VirtualClock(), anyio.Event()
    guard = Guard([{"use": Ponders(answer), "mode": "shadow"}], clock=clock, limits=Limits(total_timeout=60))
    seen = Visit(GuardMiddleware(saying(CALLS), guard=guard), body=ASK)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(59)
        assert seen.heard.complete
        await clock.advance(2)
    records = guard.records_of(guard.recent_calls[-1])
    assert records[-1].details["outcome"] == "success"


async def test_a_hook_that_hangs_in_place_blocks() -> None:
    class Hanging(Policy):
        @hookimpl
        async def on_content_chunk(self, chunk: ContentChunk) -> None:
            if chunk.text == "calls":
                await anyio.sleep_forever()

    clock = VirtualClock()
    guard = Guard([Hanging()], clock=clock, limits=Limits(hook_timeout=5))
    seen = Visit(GuardMiddleware(saying(CALLS), guard=guard), body=ASK)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(4.9)
        assert not seen.heard.complete
        await clock.advance(1)
        assert seen.heard.complete
    assert b"first" not in seen.heard.body
    assert seen.heard.body.endswith(DONE)
    closed = guard.records_of(guard.recent_calls[-1])[-1]
    assert closed.type is EventType.CLOSED
    assert closed.details["outcome"] == "policy_error"


PAGES = {
    "a page": ([b"<html>", b"Bad Gateway</html>"], [(b"content-type", b"text/html")]),
    "nothing": ([], []),
    "no event": ([], SSE),
    "what cannot be read": ([b"data: {\n\n"], SSE),
}


@pytest.mark.parametrize("page", PAGES)
async def test_a_status_is_told_whatever_comes_with_it(page: str) -> None:
    class Elsewhere(Policy):
        @hookimpl
        def on_response_started(self, response: Any) -> Retry | None:
            return Retry("no answer", model="other") if response.status == 502 else None

    pieces, headers = PAGES[page]
    answers = [saying(pieces, headers, 502), saying(CALLS)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answers.pop(0)(scope, receive, send)

    heard = await visit(GuardMiddleware(app, guard=Guard([Elsewhere()])), body=ASK)
    assert (heard.status, heard.body) == (200, b"".join(CALLS))


async def test_a_retry_asks_the_application_again() -> None:
    class Picky(Policy):
        @hookimpl
        def on_response_started(self, response: Any) -> Retry | None:
            return Retry("not this model", model="better") if response.model == "m" else None

    asked = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = json.loads((await receive())["body"])
        asked.append(body["model"])
        answer = b"".join(CALLS).replace(b'"model": "m"', b'"model": "%s"' % body["model"].encode())

        async def again() -> Any:
            return {"type": "http.request", "body": b""}

        await saying([answer])(scope, again, send)

    heard = await visit(GuardMiddleware(app, guard=Guard([Picky()])), body=ASK)
    assert asked == ["m", "better"]
    assert b'"model": "better"' in heard.body
    assert b'"model": "m"' not in heard.body


async def test_an_unparseable_answer_does_not_pass_a_policy_that_enforces() -> None:
    class Reading(Policy):
        @hookimpl
        def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
            return None

    app = saying([b"<html>not json</html>"], JSON)
    heard = await visit(GuardMiddleware(app, guard=Guard([Reading()])), body=ASK)
    assert b"not json" not in heard.body
    assert heard.complete


class BlocksAll(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block:
        return Block("no")


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"choices":[{"index":0,"message":{"role":"assistant","content":"x"}}]}']
)
async def test_what_stands_for_a_body_says_what_it_is(body: bytes) -> None:
    """A label that was wrong about upstream's words would be believed about the guard's."""
    app = saying([body], [(b"content-type", b"text/html")])
    heard = await visit(GuardMiddleware(app, guard=Guard([BlocksAll()])), body=ASK.replace(b"true", b"false"))
    assert heard.headers[b"content-type"] == b"application/json"
    assert json.loads(heard.body)


@pytest.mark.parametrize("page", [b"slow down", b'{"error":"slow down"}'])
async def test_an_error_keeps_what_it_tells_the_client_to_do(page: bytes) -> None:
    """Whether its body could be read, or stands for one that could not."""
    headers = [(b"content-type", b"text/plain"), (b"Retry-After", b"7"), (b"allow", b"POST"), (b"etag", b"x")]
    app = saying([page], headers, 429)
    heard = await visit(GuardMiddleware(app, guard=Guard([BlocksAll()])), body=ASK)
    assert heard.status == 429
    assert (heard.headers[b"retry-after"], heard.headers[b"allow"]) == (b"7", b"POST")
    assert b"etag" not in heard.headers


async def test_a_client_that_has_stopped_reading_does_not_keep_a_broken_answer_open() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        await send({"type": "http.response.body", "body": TEXT[0], "more_body": True})

    clock = VirtualClock()
    guard = Guard(clock=clock)
    middleware = GuardMiddleware(app, guard=guard)
    await visit(middleware, body=ASK)  # the first one is watched, whatever comes

    async def deaf(message: dict[str, Any]) -> None:
        if b"error" in message.get("body", b""):
            await anyio.sleep_forever()

    seen = Visit(middleware, body=ASK, on_send=deaf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(Limits().close_timeout + 1)
    [closed] = [each for each in guard.records_of(guard.recent_calls[-1]) if each.type is EventType.CLOSED]
    assert closed.details["outcome"] != "success"


class Resamples(Policy):
    """Asks again for an answer that says "look"."""

    hold = "response"

    @hookimpl
    def on_response_completed(self, response: ResponseCompleted) -> Retry | None:
        return Retry("not that one", model="better") if "look" in response.text else None


SECOND = [chunk({"role": "assistant", "content": "yes"}), chunk({}, "stop"), DONE]
AN_ERROR = b'{"error":{"message":"overloaded","type":"x","param":null,"code":null}}'


def in_two_attempts(pause: anyio.Event, pieces: list[bytes], **head: Any) -> Any:
    """An application that takes its time with the first answer."""
    first, second = saying([TEXT[0], chunk({}, "stop"), DONE]), saying(pieces, **head)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if pause.is_set():
            await second(scope, receive, send)
            return

        async def slowly(message: Any) -> None:
            if message.get("body") == DONE:
                await pause.wait()
            await send(message)

        await first(scope, receive, slowly)

    return app


async def resampled(pieces: list[bytes], **head: Any) -> tuple[Visit, Any]:
    clock, pause = VirtualClock(), anyio.Event()
    guard = Guard([Resamples()], clock=clock, limits=Limits(keepalive_interval=15))
    seen = Visit(GuardMiddleware(in_two_attempts(pause, pieces, **head), guard=guard), body=ASK)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.advance(16)
        assert seen.heard.body == b": keepalive\n\n"
        pause.set()
    assert seen.heard.complete
    return seen, guard.records_of(guard.recent_calls[-1])


async def test_another_attempt_is_possible_when_the_client_had_to_be_kept_waiting() -> None:
    seen, records = await resampled(SECOND)
    assert seen.heard.body == b": keepalive\n\n" + b"".join(SECOND)
    assert seen.heard.status == 200
    end = records[-1].details
    assert (end["outcome"], end["retries"]) == ("success", 1)
    assert end["first_byte"] >= 16


@pytest.mark.parametrize(
    ("pieces", "head"),
    [
        ([AN_ERROR], {"headers": JSON, "status": 529}),
        ([b"<html>"], {"headers": [(b"content-type", b"text/html")], "status": 502}),
        ([b"oops"], {"headers": [(b"content-encoding", b"aws-chunked")]}),
        ([BODY], {"headers": JSON}),
        ([], {"status": 204}),
    ],
)
async def test_what_is_no_stream_cannot_follow_in_one(pieces: list[bytes], head: dict[str, Any]) -> None:
    seen, records = await resampled(pieces, **head)
    (frame,) = [each for each in seen.heard.body.split(b"\n\n") if each.startswith(b"data: {")]
    assert json.loads(frame[6:])["error"]["code"] in ("upstream_error", "uninspectable_response")
    assert b"so" not in seen.heard.body
    assert records[-1].details["outcome"] == "upstream_error"


async def test_a_second_answer_that_is_blocked_ends_well_in_the_stream_that_has_begun() -> None:
    again = [chunk({"role": "assistant", "content": "look!"}), chunk({}, "stop"), DONE]
    seen, records = await resampled(again)
    assert b"look" not in seen.heard.body
    assert seen.heard.body.endswith(DONE)
    assert b"Blocked by the policy resamples" in seen.heard.body
    end = records[-1].details
    assert (end["outcome"], end["retries"]) == ("blocked", 2)


class DoesNotLetGo(Policy):
    waits = True

    def __init__(self, answer: anyio.Event) -> None:
        self._answer = answer

    @hookimpl
    async def on_tool_call_completed(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._answer.wait()


async def test_who_does_not_let_go_at_the_deadline_ends_the_answer() -> None:
    clock, answer = VirtualClock(), anyio.Event()
    guard = Guard([DoesNotLetGo(answer)], clock=clock, limits=Limits(hook_timeout=30))
    seen = Visit(GuardMiddleware(saying(CALLS), guard=guard), body=ASK)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.rest()
        await clock.advance(34)
        assert not seen.heard.complete, "it may still clean up"
        await clock.advance(2)
        assert seen.heard.complete
        assert b"arguments" not in seen.heard.body
        answer.set()
    failed = [
        each for each in guard.records_of(guard.recent_calls[-1]) if each.type is EventType.POLICY_ERROR
    ]
    assert failed
    assert guard.records_of(guard.recent_calls[-1])[-1].details["outcome"] == "policy_error"


class CancelsItself(Policy):
    """About so many calls: several are judged in tasks of a group, one is not."""

    waits = True

    @hookimpl
    async def on_tool_call_completed(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await checkpoint()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("calls", [1, 2])
async def test_a_hook_that_cancels_its_own_task_ends_the_answer(calls: int) -> None:
    guard = Guard([CancelsItself()])
    said = [*TEXT, *CALLS[2 : 2 + calls], *CALLS[4:]]
    seen = Visit(GuardMiddleware(saying(said), guard=guard), body=ASK)
    with anyio.fail_after(60), pytest.raises(RuntimeError, match="was cancelled"):
        await seen.run()
    assert seen.heard.complete
    assert b"arguments" not in seen.heard.body
    assert guard.records_of(guard.recent_calls[-1])[-1].details["outcome"] == "policy_error"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_member_of_a_group_that_cancels_its_own_task_has_not_agreed() -> None:
    agrees = Asking(tuple((name, anyio.Event()) for name in ("first", "second")))
    for _, event in agrees.verdicts:
        event.set()
    guard = Guard([{"use": each, "group": "judges"} for each in (agrees, CancelsItself())])
    heard = await visit(GuardMiddleware(saying(CALLS), guard=guard), body=ASK)
    assert b"arguments" not in heard.body
    end = guard.records_of(guard.recent_calls[-1])[-1]
    assert (end.details["outcome"], end.policy) == ("policy_error", "cancels-itself")
