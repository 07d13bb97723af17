"""What a policy is told of who asks: enough to tell callers apart, and no credential."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import (
    Block,
    ChatRequest,
    Guard,
    GuardMiddleware,
    Policy,
    PolicyContext,
    ToolCall,
    hookimpl,
)
from luthien_guard.asgi import USER
from luthien_guard.callers import Callers
from luthien_guard.exchange import RequestMetadata
from luthien_guard.testing import Script, render, run
from tests.asgi_drive import ask

KEY = "sk-canary-0123456789abcdef0123456789abcdef"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def notes() -> tuple[Policy, list[RequestMetadata]]:
    """A policy, and what each of its hooks was told."""
    told: list[RequestMetadata] = []

    class Notes(Policy):
        @hookimpl
        def on_request_started(self, request: ChatRequest, ctx: PolicyContext) -> None:
            told.append(ctx.exchange)

        @hookimpl
        def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> None:
            told.append(ctx.exchange)

    return Notes(), told


async def told_through_asgi(
    headers: list[tuple[bytes, bytes]], body: dict[str, Any], state: dict[str, Any] | None = None
) -> tuple[Guard, list[RequestMetadata]]:
    rendering = render(Script().tool_call("ls", {}), "openai.chat", stream=False)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        plain = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": plain})
        await send({"type": "http.response.body", "body": rendering.body})

    policy, told = notes()
    guard = Guard([policy])
    guarded = GuardMiddleware(app, guard=guard)

    async def authenticating(scope: Any, receive: Any, send: Any) -> None:
        await guarded({**scope, "state": state}, receive, send)

    await ask(authenticating, "/v1/chat/completions", json.dumps(body).encode(), headers=headers)
    return guard, told


async def test_the_request_and_the_answer_are_asked_by_the_same() -> None:
    _, told = await told_through_asgi([(b"x-session-id", b"s1")], {**ASKED, "user": "alice"})
    assert len(told) == 2
    assert told[0] == told[1]
    assert (told[0].session_id, told[0].user_id, told[0].endpoint) == ("s1", "alice", "/v1/chat/completions")


async def test_the_session_may_stand_in_the_request() -> None:
    _, told = await told_through_asgi([], {**ASKED, "metadata": {"session_id": "s2"}})
    assert {each.session_id for each in told} == {"s2"}


async def test_who_authenticates_further_out_knows_better() -> None:
    guard, told = await told_through_asgi([], {**ASKED, "user": "mallory"}, {USER: "alice"})
    assert {each.user_id for each in told} == {"alice"}
    assert guard.records_of(told[0].call_id)[0].details["user_id"] == "alice"


async def test_a_refused_request_is_theirs_too() -> None:
    guard, told = await told_through_asgi([(b"content-encoding", b"unheard-of")], ASKED, {USER: 7})
    assert told == []
    (call_id,) = guard.recent_calls
    assert guard.records_of(call_id)[0].details["user_id"] == "7"


@pytest.mark.parametrize("state", [None, {}, {"db": "pool"}])
async def test_the_state_of_a_host_is_its_own(state: dict[str, Any] | None) -> None:
    _, told = await told_through_asgi([], {**ASKED, "user": "alice"}, state)
    assert {each.user_id for each in told} == {"alice"}


async def test_it_is_what_the_record_says() -> None:
    guard, told = await told_through_asgi([(b"authorization", f"Bearer {KEY}".encode())], ASKED)
    received = guard.records_of(told[0].call_id)[0].details
    for name in ("session_id", "user_id", "api_key_hash", "endpoint"):
        assert received[name] == getattr(told[0], name)


@pytest.mark.parametrize("header", [b"authorization", b"x-api-key"])
async def test_a_credential_is_known_by_its_hash_alone(header: bytes) -> None:
    guard, told = await told_through_asgi([(header, KEY.encode())], ASKED)
    assert told[0].api_key_hash == guard.callers.hashed(KEY.encode())
    assert told[0].secrets == ()
    assert KEY not in repr(told)


async def test_callers_are_told_apart_across_exchanges() -> None:
    callers = Callers()
    one, again, two = (callers.metadata([(b"x-api-key", key)]) for key in (b"one", b"one", b"two"))
    assert one.api_key_hash == again.api_key_hash != two.api_key_hash


async def test_a_test_says_who_asks() -> None:
    class OnlyAlice(Policy):
        @hookimpl
        def on_request_started(self, request: ChatRequest, ctx: PolicyContext) -> Block | None:
            return None if ctx.exchange.user_id == "alice" else Block("not alice")

    script = Script().text("Hello.")
    (await run(OnlyAlice(), script, exchange={"user_id": "alice"})).assert_unchanged()
    (await run(OnlyAlice(), script, exchange={"user_id": "bob"})).assert_blocked(reason__contains="not alice")
    (await run(OnlyAlice(), script)).assert_blocked(reason__contains="not alice")
