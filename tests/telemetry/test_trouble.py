"""Providers that raise, exchanges without an end, no SDK at all: traffic does not notice."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import NoOpTracer, Span
from opentelemetry.trace import TracerProvider as AnyTracerProvider

from luthien_guard import ContentChunk, Guard, GuardMiddleware, Policy, hookimpl
from luthien_guard.errors import ConfigError
from luthien_guard.records import EventType
from luthien_guard.sinks.opentelemetry import Capture, OpenTelemetrySink
from luthien_guard.sinks.opentelemetry.content import VARIABLE
from tests.asgi.host import JSON, Speaker, visit
from tests.telemetry.rig import Collected, answer, asking, recorder, served

pytestmark = pytest.mark.anyio


class Changing(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        return chunk.replace(text=chunk.text.upper())


class Raising(NoOpTracer):
    def start_span(self, *args: Any, **kwargs: Any) -> Span:
        raise RuntimeError("no spans today")


class RaisingProvider(AnyTracerProvider):
    def get_tracer(self, *args: Any, **kwargs: Any) -> NoOpTracer:
        return Raising()


class Exploding(SpanProcessor):
    """An exporter that fails in the middle of traffic."""

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("the exporter is gone")


def exploding() -> TracerProvider:
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(Exploding())
    return tracers


@pytest.mark.parametrize("provider", [RaisingProvider, exploding])
async def test_a_tracer_that_raises_does_not_disturb_traffic(provider: Any) -> None:
    sink = OpenTelemetrySink(provider())
    guard = Guard([Changing()], sinks=[sink])
    heard = await visit(GuardMiddleware(Speaker(answer("quiet"), headers=JSON), guard=guard), body=asking())
    assert heard.status == 200
    assert b"QUIET" in heard.body
    assert guard.delivery.refused, "the delivery has counted it"
    assert sink.open == 0


def test_what_never_ends_is_given_up_oldest_first() -> None:
    collected = Collected(max_open=10)
    for number in range(1000):
        recorder(collected.sink.put, f"c{number}", 1000.0 + number)(EventType.REQUEST_RECEIVED, body="{}")
    assert collected.sink.open == 10
    given_up = [(span.attributes or {}) for span in collected.spans]
    assert len(given_up) == 990
    assert {each["luthien.outcome"] for each in given_up} == {"abandoned"}
    assert given_up[0]["luthien.call_id"] == "c0"
    assert collected.metrics()["luthien.telemetry.dropped"] == [({"luthien.drop.reason": "abandoned"}, 990)]


def test_or_after_an_hour() -> None:
    collected = Collected()
    recorder(collected.sink.put, "old", 1000.0)(EventType.REQUEST_RECEIVED, body="{}")
    recorder(collected.sink.put, "young", 4000.0)(EventType.REQUEST_RECEIVED, body="{}")
    recorder(collected.sink.put, "new", 4601.0)(EventType.REQUEST_RECEIVED, body="{}")
    assert [(span.attributes or {})["luthien.call_id"] for span in collected.spans] == ["old"]


def test_records_of_unknown_exchanges_are_nobody_s() -> None:
    collected = Collected()
    record = recorder(collected.sink.put)
    for type in EventType:
        if type not in (EventType.REQUEST_RECEIVED, EventType.REQUEST_REJECTED):
            record(type)
    assert collected.spans == ()
    assert collected.sink.open == 0


def test_every_record_may_lack_everything() -> None:
    collected = Collected(capture=Capture(span=True, event=True))
    record = recorder(collected.sink.put)
    for type in EventType:  # in the order of an exchange
        record(type)
    assert collected.sink.open == 0
    assert (collected.exchange.attributes or {})["luthien.outcome"] == "_OTHER"


@pytest.mark.parametrize("odd", [None, -1, True, 2**80, float("nan"), "words", [], {}, [[]], {"a": {}}])
def test_or_carry_nonsense(odd: Any) -> None:
    collected = Collected(capture=Capture(span=True, event=True))
    record = recorder(collected.sink.put)
    fields = [
        "wire_format",
        "endpoint",
        "model",
        "stream",
        "session_id",
        "traceparent",
        "body",
        "status",
        "attempt",
    ]
    fields += ["verdict", "reason", "hook", "error", "code", "usage", "choices", "said", "event", "enforced"]
    fields += ["outcome", "chunk_count", "retries", "first_byte", "hooks", "lost"]
    for type in EventType:
        record(type, None, 0.0, **dict.fromkeys(fields, odd))
    assert collected.sink.open == 0
    assert collected.exchange.end_time is not None


def test_a_clock_that_steps_back_makes_no_negative_span() -> None:
    collected = Collected()
    record = recorder(collected.sink.put)
    record(EventType.REQUEST_RECEIVED, body="{}")
    record(EventType.RESPONSE_STARTED, after=-50, status=200)
    record(EventType.VERDICT, "p", after=-70, verdict="block")
    record(EventType.CLOSED, after=-100, outcome="success")
    assert all((span.end_time or 0) >= (span.start_time or 0) for span in collected.spans)
    assert collected.metrics()["luthien.exchange.duration"][0][1] == (1, 0.0)


def test_a_flood_of_interventions_is_bounded() -> None:
    collected = Collected()
    record = recorder(collected.sink.put)
    record(EventType.REQUEST_RECEIVED, body="{}")
    for _ in range(1000):
        record(EventType.CHANGED, "p", channel="content")
    record(EventType.CLOSED, outcome="success")
    assert len(collected.exchange.events) == 64
    assert (collected.exchange.attributes or {})["luthien.events.dropped"] == 936
    assert len(collected.named("luthien.policy")) == 1
    ((_, number),) = collected.metrics()["luthien.policy.verdicts"]
    assert number == 1000


def test_a_wrong_switch_is_an_error_at_the_start() -> None:
    with pytest.raises(ConfigError, match="legacy, stable, latest"):
        OpenTelemetrySink(semconv="newest")  # type: ignore[arg-type]


def test_without_an_sdk_everything_runs_and_nothing_is_set() -> None:
    """In a process of its own: providers are global."""
    code = """
import sys
from opentelemetry import trace, metrics
from luthien_guard.sinks.opentelemetry import OpenTelemetrySink, inject
from luthien_guard.records import EventType, Record
sink = OpenTelemetrySink()
for seq, kind in enumerate(EventType):
    sink.put(Record("c", seq, 1.0, kind, None, {"wire_format": "openai.chat", "body": "{}"}))
headers = {}
inject(headers)
print(type(trace.get_tracer_provider()).__name__, sink.open, headers)
print([name for name in sys.modules if name.startswith("opentelemetry.sdk")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["ProxyTracerProvider 0 {}", "[]"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("value", "span", "event"),
    [
        ("", False, False),
        ("NO_CONTENT", False, False),
        ("false", False, False),
        ("true", True, False),
        ("span_only", True, False),
        ("EVENT_ONLY", False, True),
        ("SPAN_AND_EVENT", True, True),
        ("yes please", False, False),
    ],
)
def test_the_environment_s_words(value: str, span: bool, event: bool) -> None:
    code = "from luthien_guard.sinks.opentelemetry import Capture as C; c = C.from_environment(); print(c.span, c.event)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={VARIABLE: value}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(span), str(event)]
    assert bool(done.stderr) == (value == "yes please"), "what is not understood is said"
    assert "yes" not in done.stderr


async def test_the_sink_is_found_by_name() -> None:
    from importlib.metadata import entry_points

    (found,) = [each for each in entry_points(group="luthien_guard.tracing") if each.name == "otel"]
    assert found.load() is OpenTelemetrySink
    await served(Collected(), answer())
