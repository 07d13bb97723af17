"""Errors and HTTP that other systems got wrong (E1-E10), and what reached their clients beside it (S16, F7, F11, F17,
F18): each is a test here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import anyio
import pytest

from luthien_guard import Block, ChatRequest, ContentChunk, Guard, GuardMiddleware, Policy, ToolCall, hookimpl
from luthien_guard.limits import Limits
from luthien_guard.records import EventType
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.reading import read
from tests.asgi.host import JSON, SSE, Visit, visit
from tests.cases.chat_wire import DONE, call, chunk

pytestmark = pytest.mark.anyio

PATHS = {
    "openai.chat": "/v1/chat/completions",
    "anthropic.messages": "/v1/messages",
    "openai.responses": "/v1/responses",
}
ASK = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'
Headers = list[tuple[bytes, bytes]]


class Reads(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> None: ...


class NoCalls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("no", "NO")


def answering(status: int, body: bytes, headers: Headers = JSON) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def streaming(*pieces: bytes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


def closed(guard: Guard) -> Iterable[Any]:
    return [
        fact for id in guard.recent_calls for fact in guard.records_of(id) if fact.type is EventType.CLOSED
    ]


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 529])
async def test_e1_e2_the_upstreams_status_and_body_are_the_clients(status: int) -> None:
    body = b'{"error":{"message":"slow down","type":"rate_limit"}}'
    headers = [*JSON, (b"retry-after", b"7")]
    guard = Guard([Reads()])
    heard = await visit(GuardMiddleware(answering(status, body, headers), guard=guard), body=ASK)
    assert (heard.status, heard.body, heard.headers[b"retry-after"]) == (status, body, b"7")
    (end,) = closed(guard)
    assert end.details["outcome"] == "upstream_error"


@pytest.mark.parametrize("format", PATHS)
async def test_e3_errors_have_the_shape_of_their_endpoint(format: str) -> None:
    heard = await visit(GuardMiddleware(answering(200, b""), guard=Guard([Reads()])), PATHS[format], b"{")
    error = json.loads(heard.body)
    assert heard.status == 400
    assert (error.get("type") == "error") == (format == "anthropic.messages")
    assert error["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"1", b'{"a":NaN}', b"\xff", b'{"a":1,"a":2}']
)
async def test_e4_what_is_no_request_is_a_400_and_on_record(body: bytes) -> None:
    guard = Guard([Reads()])
    heard = await visit(GuardMiddleware(answering(200, b""), guard=guard), body=body)
    assert heard.status == 400
    facts = [fact for id in guard.recent_calls for fact in guard.records_of(id)]
    assert any(fact.type is EventType.REQUEST_REJECTED and fact.details["reason"] for fact in facts)


@pytest.mark.parametrize("length", [None, b"5", b"x", b"-1", b"99999999999999999999999"])
async def test_e5_the_limit_holds_without_and_against_content_length(length: bytes | None) -> None:
    guard = Guard([Reads()], limits=Limits(max_request_bytes=1000))
    headers = [*JSON, *([(b"content-length", length)] if length is not None else [])]
    app = GuardMiddleware(answering(200, b""), guard=guard)
    heard = await visit(app, body=[b'{"a":"', *[b"x" * 400] * 5, b'"}'], headers=headers)
    assert heard.status in (400, 413)


async def test_e6_a_client_that_leaves_is_on_record() -> None:
    guard = Guard([Reads()])
    begun = anyio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        await send({"type": "http.response.body", "body": chunk({"content": "a"}), "more_body": True})
        begun.set()
        await anyio.sleep_forever()

    seen = Visit(GuardMiddleware(app, guard=guard), body=ASK)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            await begun.wait()
            seen.gone.set()
    (end,) = closed(guard)
    assert end.details["outcome"] == "cancelled"


async def test_e7_an_upstream_that_falls_silent_is_ended_in_band() -> None:
    clock = VirtualClock()
    guard = Guard([Reads()], clock=clock, limits=Limits(idle_timeout=30))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        await send({"type": "http.response.body", "body": chunk({"content": "a"}), "more_body": True})
        await anyio.sleep_forever()

    seen = Visit(GuardMiddleware(app, guard=guard), body=ASK)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.rest()
        await clock.advance(31)
    assert b'"error"' in seen.heard.body
    assert seen.heard.complete
    (end,) = closed(guard)
    assert end.details["outcome"] == "timeout"


async def test_e8_the_upstreams_headers_come_back() -> None:
    told = [
        (b"request-id", b"req_1"),
        (b"anthropic-ratelimit-tokens-remaining", b"5"),
        (b"x-request-id", b"2"),
    ]
    body = b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[]}'
    heard = await visit(
        GuardMiddleware(answering(200, body, [*JSON, *told]), guard=Guard([Reads()])), body=ASK
    )
    assert {name: heard.headers[name] for name, _ in told} == dict(told)


async def test_e9_an_error_of_the_host_is_its_own_and_no_group() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("the host's own")

    with pytest.raises(LookupError, match="the host's own"):
        await visit(GuardMiddleware(app, guard=Guard([Reads()])), body=ASK)


async def test_e10_a_policy_may_ask_for_a_whole_answer_and_the_client_reads_what_comes() -> None:
    class Whole(Policy):
        @hookimpl
        def on_request_started(self, request: ChatRequest) -> ChatRequest:
            return request.replace(stream=False)

    message = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [message]}
    asked: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(json.loads((await receive())["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": JSON})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    heard = await visit(GuardMiddleware(app, guard=Guard([Whole(), Reads()])), body=ASK)
    assert asked[0]["stream"] is False
    assert read(heard.body, "openai.chat", stream=False).text == "hi"


@pytest.mark.parametrize("path", ["/v1/messages/", "/v1//messages", "/v1/messages/batches", "/v1/%6dessages"])
async def test_s16_no_spelling_of_a_guarded_path_is_unpoliced(path: str) -> None:
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await answering(200, b"{}")(scope, receive, send)

    class NoRequests(Policy):
        @hookimpl
        def on_request_started(self, request: ChatRequest) -> Block:
            return Block("no")

    heard = await visit(GuardMiddleware(app, guard=Guard([NoRequests()])), path, ASK)
    assert reached == []
    assert heard.status in (200, 400, 404)


async def test_f7_f11_a_choice_finishes_as_often_as_upstream_says_and_deltas_need_no_type() -> None:
    tools = chunk({"tool_calls": [call(0, "a", "bash", "{}")]}, finish="tool_calls")
    more = chunk({"tool_calls": [call(1, "b", "bash", "{}")]}, finish="tool_calls")
    heard = await visit(GuardMiddleware(streaming(tools, more, DONE), guard=Guard([NoCalls()])), body=ASK)
    left = read(heard.body, "openai.chat", stream=True)
    assert left.tool_calls == ()
    heard = await visit(GuardMiddleware(streaming(tools, more, DONE), guard=Guard([Reads()])), body=ASK)
    assert heard.body == tools + more + DONE, "what nobody changed is upstream's to say"


async def test_f17_nothing_that_upstream_did_not_send_or_a_policy_did_not_make_is_in_the_stream() -> None:
    pieces = [
        chunk({"role": "assistant", "content": "a"}),
        chunk({"content": "b"}),
        chunk({}, finish="stop"),
        DONE,
    ]
    heard = await visit(GuardMiddleware(streaming(*pieces), guard=Guard([Reads(), NoCalls()])), body=ASK)
    assert heard.body == b"".join(pieces)


async def test_f18_a_client_that_waits_for_a_verdict_hears_a_comment() -> None:
    clock = VirtualClock()
    decided = anyio.Event()

    class Slow(Policy):
        waits = True

        def __init__(self, event: anyio.Event) -> None:
            self._event = event

        @hookimpl
        async def on_tool_call_completed(self, call: ToolCall) -> None:
            await self._event.wait()

    pieces = [chunk({"content": "a"}), chunk({"tool_calls": [call(0, "a", "bash", "{}")]}),
              chunk({}, finish="tool_calls"), DONE]  # fmt: skip
    guard = Guard([Slow(decided)], clock=clock, limits=Limits(hook_timeout=1000))
    seen = Visit(GuardMiddleware(streaming(*pieces), guard=guard), body=ASK)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(seen.run)
        await clock.rest()
        before = len(seen.heard.body)
        await clock.advance(16)
        assert seen.heard.body[before:].startswith(b":")
        decided.set()
    assert len(read(seen.heard.body, "openai.chat", stream=True).tool_calls) == 1
