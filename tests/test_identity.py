"""Whose conversation a request belongs to: in every place where clients say so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.errors import ConfigError
from luthien_guard.exchange import ChatRequest
from luthien_guard.identity import SESSION_FROM, Sessions, Threads, user_of
from tests.asgi_drive import ask, replay

PLAIN = (
    "user_"
    + "a" * 64
    + "_account_0d9b52b6-5cd4-4d9c-a6a5-7e7c1f0f2f4f_session_3c1f9f0e-7d2c-4e0b-9b5e-1f2a3b4c5d6e"
)
AS_JSON = json.dumps({"device_id": "d1", "account_uuid": "acc-1", "session_id": "3c1f9f0e"})


def request(**raw: Any) -> ChatRequest:
    return ChatRequest("openai.responses", raw)


@pytest.mark.parametrize(
    ("raw", "session", "user"),
    [
        ({"metadata": {"user_id": PLAIN}}, "3c1f9f0e-7d2c-4e0b-9b5e-1f2a3b4c5d6e", PLAIN.partition("_session_")[0]),
        ({"metadata": {"user_id": AS_JSON}}, "3c1f9f0e", "acc-1"),
        ({"metadata": {"user_id": '{"device_id": "d1"}'}}, None, "d1"),
        ({"metadata": {"user_id": "somebody"}}, None, "somebody"),
        ({"metadata": {"user_id": "{no json"}}, None, "{no json"),
        ({"metadata": {"session_id": "s1", "user_id": PLAIN}}, "s1", PLAIN.partition("_session_")[0]),
        ({"conversation": "conv_1"}, "conv_1", None),
        ({"conversation": {"id": "conv_2"}}, "conv_2", None),
        ({"conversation": {"id": "conv_2"}, "previous_response_id": "resp_1"}, "conv_2", None),
        ({"previous_response_id": "resp_1"}, "resp_1", None),
        ({"prompt_cache_key": "thread-1", "previous_response_id": "resp_1"}, "thread-1", None),
        ({"safety_identifier": "hash-of-somebody"}, None, "hash-of-somebody"),
        ({"safety_identifier": "hash-of-somebody", "user": "older"}, None, "hash-of-somebody"),
        ({"user": "somebody"}, None, "somebody"),
        ({}, None, None),
    ],
)  # fmt: skip
def test_where_clients_say_it(raw: dict[str, Any], session: str | None, user: str | None) -> None:
    assert Sessions(SESSION_FROM).of(request(**raw)) == session
    assert user_of(request(**raw)) == user


@pytest.mark.parametrize(
    "odd", [7, True, [], ["x"], {}, {"id": 7}, {"id": {"id": "x"}}, "", None, "[" * 5000]
)
def test_odd_values_name_nobody(odd: Any) -> None:
    raw = {
        "conversation": odd,
        "metadata": {"session_id": odd, "user_id": odd},
        "previous_response_id": odd,
        "safety_identifier": odd,
        "user": odd,
    }
    for found in (Sessions(SESSION_FROM).of(request(**raw)), user_of(request(**raw))):
        assert found is None or found == "[" * 256
    assert Sessions(SESSION_FROM).of(request(metadata=odd)) is None


def test_a_name_has_a_bound() -> None:
    assert Sessions(SESSION_FROM).of(request(conversation="c" * 10_000)) == "c" * 256
    assert user_of(request(safety_identifier="u" * 10_000)) == "u" * 256


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "sources", "session"),
    [
        ([(b"x-session-id", b"s1")], SESSION_FROM, "s1"),
        ([(b"x-claude-code-session-id", b"s2")], SESSION_FROM, "s2"),
        ([(b"session_id", b"s3")], SESSION_FROM, "s3"),
        ([], SESSION_FROM, "conv_1"),
        ([(b"x-session-id", b"s1")], ("header:X-Mine", "body:deep.in.it"), "d1"),
        ([(b"x-mine", b"m1")], ("header:X-Mine", "body:deep.in.it"), "m1"),
        ([], (lambda request: f"of {request.model}",), "of m"),
    ],
)
async def test_headers_before_the_body_and_what_the_deployer_says(
    headers: list[tuple[bytes, bytes]], sources: Any, session: str
) -> None:
    guard = Guard(store="memory://", session_from=sources)
    app = GuardMiddleware(replay(b"{}", status=200, content_type="application/json"), guard=guard)
    body = {"model": "m", "input": "hi", "conversation": "conv_1", "deep": {"in": {"it": "d1"}}}
    async with guard:
        await ask(app, "/v1/responses", json.dumps(body).encode(), headers=headers)
        await guard.delivery.durable()
        (call,) = await guard.query.calls(session_id=session)
    assert call.endpoint == "/v1/responses"


async def responds(scope: Any, receive: Any, send: Any) -> None:
    """A response with an id of its own, which says how often it was asked."""
    asked = json.loads((await receive())["body"])["input"]
    body = {"id": f"resp_{asked}", "object": "response", "model": "m", "status": "completed", "output": []}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@pytest.mark.anyio
@pytest.mark.parametrize(("headers", "session"), [([], "resp_1"), ([(b"x-session-id", b"mine")], "mine")])
async def test_responses_that_go_on_from_one_another_are_one_session(
    headers: list[tuple[bytes, bytes]], session: str
) -> None:
    guard = Guard(store="memory://")
    app = GuardMiddleware(responds, guard=guard)

    async def asks(number: int, previous: str | None, headers: Any = ()) -> None:
        body = {"model": "m", "input": str(number), "previous_response_id": previous}
        await ask(app, "/v1/responses", json.dumps(body).encode(), headers=headers)

    async with guard:
        await asks(1, None, headers)
        await asks(2, "resp_1")
        await asks(3, "resp_2")
        await asks(4, "resp_2")  # another branch
        await asks(5, "resp_of_another_process")
        await asks(6, None)
        await guard.delivery.durable()
        found = [call.session_id for call in reversed(await guard.query.calls())]
        assert await guard.query.verify() == []
    assert found == [session, session, session, session, "resp_of_another_process", "resp_6"]


def test_what_is_known_of_responses_has_a_bound() -> None:
    threads = Threads()
    for number in range(2 * Threads.SIZE):
        threads.answered(f"r{number}", "s")
    assert threads.of("r0") == "r0"
    assert threads.of(f"r{2 * Threads.SIZE - 1}") == "s"


def test_a_response_of_a_long_id_is_known_by_what_is_asked_for() -> None:
    threads, long = Threads(), "resp_" + "x" * 300
    threads.answered(long, "s")
    assert threads.of(Sessions(SESSION_FROM).of(request(previous_response_id=long))) == "s"


def test_a_source_of_no_kind_is_told() -> None:
    with pytest.raises(ConfigError, match="neither"):
        Guard(session_from=("cookie:sid",))
