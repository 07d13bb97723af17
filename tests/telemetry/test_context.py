"""Where the spans hang, what the host sees of them, and what it does not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.context import attach, detach, get_current, set_value
from opentelemetry.trace import Span, SpanKind, StatusCode, format_span_id, format_trace_id

from luthien_guard import (
    ChatRequest,
    ContentChunk,
    Guard,
    GuardMiddleware,
    Policy,
    PolicyContext,
    hookimpl,
)
from luthien_guard.records import EventType
from luthien_guard.sinks.opentelemetry import LogCorrelation, exchange_context, inject
from tests.asgi.host import JSON, Speaker, Visit, visit
from tests.telemetry.rig import Collected, answer, asking, recorder, served, stream

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())
HEADERS = [(b"content-type", b"application/json"), TRACEPARENT]


class Watching(Policy):
    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> None:
        logging.getLogger("luthien_guard").warning("saw a chunk")


@contextmanager
def current(span: Span) -> Iterator[None]:
    with trace.use_span(span, end_on_exit=True):
        yield


def ids(span: Any) -> tuple[str, str]:
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)


# -- in ----------------------------------------------------------------------------------------------------------------


async def test_the_caller_s_trace_goes_on() -> None:
    collected = Collected()
    await served(collected, answer(), headers=HEADERS)
    span = collected.exchange
    assert span.parent is not None
    assert (ids(span)[0], format_span_id(span.parent.span_id)) == (TRACE, PARENT)
    assert span.kind is SpanKind.SERVER


async def test_in_the_span_of_the_host_s_server_it_is_a_step() -> None:
    collected = Collected()
    with current(collected.tracer.start_span("POST /v1", kind=SpanKind.SERVER)):
        await served(collected, answer(), headers=HEADERS)
    span = collected.exchange
    (server,) = collected.named("POST")
    assert server.context is not None
    assert span.parent is not None
    assert span.parent.span_id == server.context.span_id, "the host has read the header already"
    assert span.kind is SpanKind.INTERNAL


@pytest.mark.parametrize(
    "header", [b"", b"00-0-0-0", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"\xff" * 55]
)
async def test_a_bad_header_begins_a_new_trace(header: bytes) -> None:
    collected = Collected()
    await served(collected, answer(), headers=[HEADERS[0], (b"traceparent", header)])
    assert collected.exchange.parent is None


# -- what policies know ------------------------------------------------------------------------------------------------


def noting() -> tuple[Policy, list[tuple[str | None, str | None]]]:
    """A policy, and where its exchanges stood: once for the request, once for each chunk."""
    stood: list[tuple[str | None, str | None]] = []

    class Stands(Policy):
        @hookimpl
        def on_request_started(self, request: ChatRequest, ctx: PolicyContext) -> None:
            stood.append((ctx.observability.trace_id, ctx.observability.span_id))

        @hookimpl
        async def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> None:
            stood.append((ctx.observability.trace_id, ctx.observability.span_id))

    return Stands(), stood


async def test_a_policy_knows_the_exchange_s_own_span() -> None:
    collected, (policy, stood) = Collected(), noting()
    await served(collected, answer(), headers=HEADERS, policies=[policy])
    assert set(stood) == {ids(collected.exchange)}
    assert len(stood) > 1


async def test_without_a_tracer_it_knows_the_caller_s() -> None:
    policy, stood = noting()
    app = GuardMiddleware(Speaker(answer(), headers=JSON), guard=Guard([policy]))
    await visit(app, body=asking(), headers=HEADERS)
    assert set(stood) == {(TRACE, PARENT)}


async def test_where_nobody_traces_there_is_nothing_to_know() -> None:
    policy, stood = noting()
    app = GuardMiddleware(Speaker(answer(), headers=JSON), guard=Guard([policy]))
    await visit(app, body=asking())
    assert set(stood) == {(None, None)}


# -- the host's own instrumentation ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"},
        {"gen_ai.system": "openai"},
        {"openinference.span.kind": "LLM"},
        {"llm.request.type": "chat"},
    ],
)
async def test_a_call_that_the_host_instruments_gets_no_second_span(attributes: dict[str, Any]) -> None:
    collected = Collected()
    with current(collected.tracer.start_span("chat gpt-4", attributes=attributes)):
        await served(collected, answer(), policies=[{"use": "uppercase-nth-word", "config": {"n": 2}}])
    (span,) = collected.spans
    found = span.attributes or {}
    assert {name: found[name] for name in attributes} == attributes, "what the host said stays"
    assert found["luthien.outcome"] == "success"
    assert "gen_ai.usage.input_tokens" not in found
    assert [event.name for event in span.events] == ["luthien.intervention"]
    assert not [name for name in collected.metrics() if name.startswith("gen_ai.")], "the host counts it"


async def test_nor_where_the_genai_utilities_say_so() -> None:
    collected = Collected()
    token = attach(set_value("opentelemetry.genai.client.inference.context", object()))
    try:
        await served(collected, answer())
    finally:
        detach(token)
    assert collected.spans == ()


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_tool", "invoke_workflow"])
async def test_an_agent_s_span_is_a_parent_like_any_other(operation: str) -> None:
    collected = Collected()
    with current(collected.tracer.start_span(operation, attributes={"gen_ai.operation.name": operation})):
        await served(collected, answer())
    assert collected.tree()[:2] == [operation, "  chat gpt-4"]


async def test_a_host_s_span_that_is_over_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    collected = Collected()
    record = recorder(collected.sink.put)
    with current(collected.tracer.start_span("chat", attributes={"gen_ai.operation.name": "chat"})):
        record(EventType.REQUEST_RECEIVED, wire_format="openai.chat", model="m", body="{}")
    record(EventType.VERDICT, "p", verdict="block", after=1)
    record(EventType.CLOSED, outcome="blocked", after=1)
    assert caplog.records == [], "the SDK warns about spans that have ended"


# -- out ---------------------------------------------------------------------------------------------------------------


async def test_no_span_is_ever_current() -> None:
    collected = Collected()
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(trace.get_current_span())
        await Speaker(*stream("one"))(scope, receive, send)
        seen.append(trace.get_current_span())

    before = get_current()
    await served(collected, app=app, policies=[Watching()])
    assert seen == [trace.INVALID_SPAN] * 2
    assert get_current() is before


async def test_upstream_calls_carry_the_trace_on() -> None:
    collected = Collected()
    headers: dict[str, str] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inject(headers)
        await Speaker(answer(), headers=JSON)(scope, receive, send)

    await served(collected, app=app)
    trace_id, span_id = ids(collected.exchange)
    assert headers["traceparent"].startswith(f"00-{trace_id}-{span_id}-0")


def test_outside_of_an_exchange_the_current_span_is_carried_on() -> None:
    headers: dict[str, str] = {}
    inject(headers)
    assert headers == {}
    collected = Collected()
    with current(collected.tracer.start_span("host")):
        inject(headers)
    assert headers["traceparent"].startswith(f"00-{ids(collected.spans[0])[0]}")


async def test_the_application_s_spans_can_hang_below() -> None:
    collected = Collected()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        collected.tracer.start_span("retrieve", context=exchange_context()).end()
        await Speaker(answer(), headers=JSON)(scope, receive, send)

    await served(collected, app=app)
    assert collected.tree()[0] == "chat gpt-4"
    assert "  retrieve" in collected.tree()


async def test_a_guarded_call_inside_a_guarded_route_hangs_below_and_counts_its_tokens_once() -> None:
    collected = Collected()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        call = recorder(collected.sink.put, "inner")
        call(EventType.REQUEST_RECEIVED, wire_format="openai.chat", model="m", body="{}")
        call(EventType.USAGE, usage={"prompt_tokens": 3, "completion_tokens": 4})
        call(EventType.CLOSED, outcome="success")
        headers: dict[str, str] = {}
        inject(headers)
        outer.append(headers["traceparent"].split("-")[2])
        await Speaker(answer(), headers=JSON)(scope, receive, send)

    outer: list[str] = []
    await served(collected, app=app, policies=[Watching()])
    (inner,) = collected.named("chat m")
    (around,) = collected.named("chat gpt-4")
    assert inner.parent is not None
    assert inner.kind is SpanKind.CLIENT
    assert outer == [format_span_id(inner.parent.span_id)] == [ids(around)[1]], (
        "the outer one is in place again"
    )
    counted = collected.metrics()["gen_ai.client.token.usage"]
    assert {labels["gen_ai.request.model"] for labels, _ in counted} == {"m"}


# -- logs --------------------------------------------------------------------------------------------------------------


@contextmanager
def listening() -> Iterator[list[logging.LogRecord]]:
    found: list[logging.LogRecord] = []
    logger, handler = logging.getLogger("luthien_guard"), logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    correlation = LogCorrelation()
    logger.addHandler(handler)
    logger.addFilter(correlation)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.removeFilter(correlation)


async def test_log_records_name_trace_span_and_call() -> None:
    collected = Collected()
    with listening() as found:
        await served(collected, *stream("one"), policies=[Watching()])
        logging.getLogger("luthien_guard").warning("afterwards")
    inside, outside = [vars(each) for each in found]
    assert (inside["trace_id"], inside["span_id"]) == ids(collected.exchange)
    assert inside["call_id"] == (collected.exchange.attributes or {})["luthien.call_id"]
    assert (outside["trace_id"], outside["span_id"], outside["call_id"]) == ("0", "0", "")


async def test_exchanges_side_by_side_log_their_own_ids() -> None:
    collected = Collected()
    everybody = anyio.Event()
    logged: list[tuple[str, str]] = []
    app = Speaker(answer(), headers=JSON)
    here = 0

    class Meeting(Policy):
        @hookimpl
        async def on_content_chunk(self, chunk: ContentChunk, ctx: Any) -> None:
            nonlocal here
            here += 1
            if here == 5:
                everybody.set()
            await everybody.wait()
            record = logging.LogRecord("luthien_guard", logging.INFO, "", 0, "", (), None)
            LogCorrelation().filter(record)
            logged.append((ctx.call_id, vars(record)["call_id"]))

    guarded = GuardMiddleware(app, guard=Guard([Meeting()], sinks=[collected.sink]))
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(Visit(guarded, body=asking()).run)
    assert len({call_id for call_id, _ in logged}) == 5
    assert all(call_id == correlated for call_id, correlated in logged)


async def test_without_an_exchange_the_current_span_is_logged() -> None:
    collected = Collected()
    with listening() as found, current(collected.tracer.start_span("host")):
        logging.getLogger("luthien_guard").warning("here")
    assert (vars(found[0])["trace_id"], vars(found[0])["span_id"]) == ids(collected.spans[0])


# -- the other door ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # litellm's only one
async def test_a_guarded_client_call_is_a_client_span() -> None:
    collected = Collected()
    guard = Guard([Watching()], sinks=[collected.sink])
    messages = [{"role": "user", "content": "hi"}]
    before = get_current()
    reply = await guard.acompletion(model="gpt-4", messages=messages, mock_response="hello you")
    assert reply.choices[0].message.content == "hello you"
    chunks = await guard.acompletion(model="gpt-4", messages=messages, mock_response="hello you", stream=True)
    assert [chunk async for chunk in chunks]
    assert get_current() is before
    whole, streamed = collected.named("chat gpt-4")
    assert whole.kind is streamed.kind is SpanKind.CLIENT
    assert whole.parent is streamed.parent is None
    assert whole.status.status_code is StatusCode.UNSET
    assert (whole.attributes or {})["gen_ai.usage.output_tokens"]
    assert (streamed.attributes or {})["luthien.outcome"] == "success"
    assert "gen_ai.client.operation.duration" in collected.metrics()


async def test_one_visit_leaves_nothing_for_the_next() -> None:
    collected = Collected()
    app = GuardMiddleware(Speaker(answer(), headers=JSON), guard=Guard(sinks=[collected.sink]))
    for _ in range(2):
        await visit(app, body=asking())
    assert len({span.context.trace_id for span in collected.named("chat") if span.context}) == 2
