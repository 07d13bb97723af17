"""The spans of real exchanges: their tree, their names, their attributes."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import anyio
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from luthien_guard import Block, ChatRequest, ContentChunk, Guard, GuardMiddleware, Policy, Retry, hookimpl
from tests.asgi.host import SSE, Speaker, Visit
from tests.telemetry.rig import Collected, answer, asking, served, steady, stream

pytestmark = pytest.mark.anyio

UPPERCASE = {"use": "uppercase-nth-word", "config": {"n": 2}}


class Refusing(Policy):
    """Blocks requests that say no."""

    @hookimpl
    def on_request_started(self, request: ChatRequest) -> Block | None:
        return Block("they said no") if "no" in json.dumps(request.raw) else None


class Watching(Policy):
    """Blocks text that says bad."""

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("bad") if "bad" in chunk.text else None


class Broken(Policy):
    @hookimpl
    def on_request_started(self, request: ChatRequest) -> None:
        raise KeyError("what the prompt said")


async def test_an_exchange_is_one_span_with_its_phases() -> None:
    collected = Collected()
    await served(
        collected, answer(), policies=[Watching()], ask=asking(temperature=0.5, max_tokens=9, seed=3, n=1)
    )
    assert collected.tree() == ["chat gpt-4", "  luthien.request", "  luthien.upstream", "  luthien.response"]
    assert steady(collected.exchange) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4",
        "gen_ai.request.stream": False,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 3,
        "gen_ai.response.model": "gpt-4-0613",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
        "luthien.wire_format": "openai.chat",
        "luthien.endpoint": "/v1/chat/completions",
        "luthien.model": "gpt-4",
        "luthien.stream": False,
        "luthien.chunk_count": 1,
        "luthien.outcome": "success",
    }
    assert collected.exchange.kind is SpanKind.SERVER
    assert collected.exchange.status.status_code is StatusCode.UNSET
    assert collected.sink.open == 0


async def test_what_no_policy_looks_at_has_no_response() -> None:
    """Bytes go straight through then, unread, unless something else has to be recorded of them."""
    collected = Collected()
    await served(collected, answer())
    assert collected.tree() == ["chat gpt-4", "  luthien.request", "  luthien.upstream"]
    assert (collected.exchange.attributes or {})["luthien.outcome"] == "success"


async def test_a_streamed_exchange_counts_its_chunks_and_times_the_first() -> None:
    collected = Collected()
    await served(collected, *stream("one ", "two ", "three"), policies=[UPPERCASE])
    attributes = collected.exchange.attributes or {}
    assert attributes["gen_ai.request.stream"] is attributes["luthien.stream"] is True
    assert attributes["luthien.chunk_count"] == 6
    assert isinstance(attributes["gen_ai.response.time_to_first_chunk"], float)
    assert attributes["gen_ai.usage.output_tokens"] == 4


async def test_a_change_is_an_event_and_a_child_of_the_phase() -> None:
    collected = Collected()
    await served(collected, answer(), policies=[UPPERCASE])
    assert collected.tree() == [
        "chat gpt-4",
        "- luthien.intervention",
        "  luthien.request",
        "  luthien.upstream",
        "  luthien.response",
        "    luthien.policy uppercase-nth-word",
    ]
    (event,) = collected.exchange.events
    assert event.attributes == {
        "luthien.policy.name": "uppercase-nth-word",
        "luthien.policy.verdict": "change",
        "luthien.policy.enforced": True,
    }


async def test_a_blocked_request_never_reaches_the_upstream() -> None:
    collected = Collected()
    await served(collected, answer(), policies=[Refusing()], ask=asking("no"))
    assert collected.tree() == [
        "chat gpt-4",
        "- luthien.intervention",
        "  luthien.request",
        "    luthien.policy refusing",
    ]
    (policy,) = collected.named("luthien.policy")
    assert policy.attributes == {
        "luthien.policy.name": "refusing",
        "luthien.policy.verdict": "block",
        "luthien.policy.hook": "on_request_started",
    }
    attributes = collected.exchange.attributes or {}
    assert (attributes["luthien.outcome"], attributes["luthien.blocked_by"]) == ("blocked", "refusing")
    assert collected.exchange.status.status_code is StatusCode.UNSET, "to block is what a guard is for"


async def test_a_blocked_stream() -> None:
    collected = Collected()
    heard = await served(collected, *stream("good ", "bad ", "ugly"), policies=[Watching()])
    assert b"ugly" not in heard.body
    assert collected.tree()[-2:] == ["  luthien.response", "    luthien.policy watching"]
    assert (collected.exchange.attributes or {})["luthien.outcome"] == "blocked"


async def test_in_shadow_a_verdict_is_told_as_not_enforced() -> None:
    collected = Collected()
    await served(collected, answer("bad"), policies=[Watching()], mode="observe")
    (event,) = collected.exchange.events
    assert (event.attributes or {})["luthien.policy.enforced"] is False
    assert (collected.exchange.attributes or {})["luthien.outcome"] == "success"


async def test_a_policy_that_fails_is_an_error_by_its_type() -> None:
    collected = Collected()
    await served(collected, answer(), policies=[Broken()])
    (policy,) = collected.named("luthien.policy")
    assert (policy.attributes or {})["error.type"] == "KeyError"
    assert policy.status.status_code is StatusCode.ERROR
    assert (collected.exchange.attributes or {})["error.type"] == "policy_error"
    assert collected.exchange.status.status_code is StatusCode.ERROR


async def test_an_upstream_that_fails() -> None:
    collected = Collected()
    error = json.dumps({"error": {"message": "slow down", "type": "rate", "code": None}}).encode()
    await served(collected, error, policies=[Watching()], status=429)
    assert (collected.exchange.attributes or {})["error.type"] == "429"
    assert collected.exchange.status.status_code is StatusCode.ERROR
    (upstream,) = collected.named("luthien.upstream")
    assert (upstream.attributes or {})["http.response.status_code"] == 429
    assert upstream.status.status_code is StatusCode.ERROR


async def test_a_client_that_leaves_is_no_error() -> None:
    collected = Collected()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        await send({"type": "http.response.body", "body": stream("one")[0], "more_body": True})
        await receive()

    guard = Guard([Watching()], sinks=[collected.sink])
    seen = Visit(GuardMiddleware(app, guard=guard), body=asking(stream=True))
    seen._on_send = lambda message: seen.gone.set() if message["type"].endswith("body") else None
    await seen.run()
    assert (collected.exchange.attributes or {})["luthien.outcome"] == "cancelled"
    assert collected.exchange.status.status_code is StatusCode.UNSET
    assert collected.sink.open == 0


async def test_a_retry_asks_the_upstream_twice() -> None:
    class Picky(Policy):
        @hookimpl
        def on_response_started(self, response: Any) -> Retry | None:
            return Retry("again", model="better") if response.model == "gpt-4-0613" else None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked = json.loads((await receive())["body"])["model"]
        said = answer(model="gpt-4-0613" if asked == "gpt-4" else asked)

        async def again() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        await Speaker(said, headers=[(b"content-type", b"application/json")])(scope, again, send)

    collected = Collected()
    await served(collected, app=app, policies=[Picky()])
    assert collected.tree() == [
        "chat gpt-4",
        "- luthien.intervention",  # the verdict
        "- luthien.intervention",  # and the other model
        "  luthien.request",
        "  luthien.upstream",
        "  luthien.response",
        "    luthien.policy picky",
        "  luthien.upstream",
        "  luthien.response",
    ]
    assert (collected.exchange.attributes or {})["luthien.retries"] == 1
    assert (collected.named("luthien.upstream")[1].attributes or {})["luthien.attempt"] == 1
    assert (collected.exchange.attributes or {})["gen_ai.response.model"] == "better"


async def test_a_request_that_is_refused_before_any_policy() -> None:
    collected = Collected()
    await served(collected, answer(), ask=b'{"model":"a","model":"b"}')
    assert [event.name for event in collected.exchange.events] == ["luthien.request.rejected"]
    assert (collected.exchange.attributes or {})["luthien.outcome"] == "blocked"


async def test_spans_of_many_exchanges_at_once_keep_apart() -> None:
    collected = Collected()
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(partial(served, collected, *stream("one ", "two"), policies=[Watching()]))
    roots = [span for span in collected.spans if span.parent is None]
    assert len(roots) == 20
    assert len({span.context.trace_id for span in roots if span.context}) == 20
    for root in roots:
        below = [
            span
            for span in collected.spans
            if span.parent and root.context and span.parent.span_id == root.context.span_id
        ]
        assert [span.name for span in below] == ["luthien.request", "luthien.upstream", "luthien.response"]


@pytest.mark.parametrize(
    ("semconv", "provider", "written"),
    [
        ("legacy", "gen_ai.system", "gen_ai.usage.cache_creation.input_tokens"),
        ("stable", "gen_ai.provider.name", "gen_ai.usage.cache_creation.input_tokens"),
        ("latest", "gen_ai.provider.name", "gen_ai.usage.cache_write.input_tokens"),
    ],
)
async def test_the_switch_of_conventions(semconv: str, provider: str, written: str) -> None:
    collected = Collected(semconv=semconv)
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 2,
        "output_tokens": 3,
    }
    content = [{"type": "text", "text": "hello"}]
    body = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": content}
    body |= {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
    ask = json.dumps(
        {"model": "claude", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    ).encode()
    await served(collected, json.dumps(body).encode(), ask=ask, path="/v1/messages", policies=[Watching()])
    attributes = collected.exchange.attributes or {}
    assert attributes[provider] == "anthropic"
    assert attributes[written] == 2
    assert attributes["gen_ai.usage.input_tokens"] == 17, "all input, whether it came out of a cache or not"
    assert attributes["gen_ai.response.finish_reasons"] == ("end_turn",)
