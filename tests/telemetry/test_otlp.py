"""Out of the process: to a receiver that speaks OTLP over HTTP, to one that hangs, to none."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from anyio import to_thread
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from luthien_guard import ContentChunk, Guard, GuardMiddleware, Policy, hookimpl
from luthien_guard.sinks.opentelemetry import OpenTelemetrySink
from tests.asgi.host import SSE, Heard, Speaker, visit
from tests.telemetry.receiver import Receiver, receiver
from tests.telemetry.rig import asking, stream

pytestmark = pytest.mark.anyio


class Watching(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> None: ...


@dataclass
class Exporting:
    tracers: TracerProvider
    meters: MeterProvider
    sink: OpenTelemetrySink

    async def exchange(self, text: str = "hello") -> Heard:
        guard = Guard([Watching()], sinks=[self.sink])
        app = GuardMiddleware(Speaker(*stream(text), headers=SSE), guard=guard)
        return await visit(app, body=asking(text, stream=True))


@contextmanager
def exporting(url: str) -> Iterator[Exporting]:
    resource = Resource.create({"service.name": "shop"})
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces", timeout=1), schedule_delay_millis=20)
    )
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/v1/metrics", timeout=1), 3_600_000)
    meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    try:
        yield Exporting(tracers, meters, OpenTelemetrySink(tracers, meters))
    finally:
        tracers.shutdown()
        meters.shutdown(timeout_millis=1000)


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


async def test_a_receiver_gets_the_tree_and_the_metrics() -> None:
    with receiver() as collector, exporting(collector.url) as host:
        assert (await host.exchange("a canary")).complete
        assert host.tracers.force_flush()
        assert host.meters.force_flush()
        _arrived(collector)
    assert not [body for body in collector.bodies if b"canary" in body]


def _arrived(collector: Receiver) -> None:
    spans = {span.name: span for span in collector.spans()}
    assert set(spans) == {"chat gpt-4", "luthien.request", "luthien.upstream", "luthien.response"}
    exchange = spans.pop("chat gpt-4")
    assert {span.parent_span_id for span in spans.values()} == {exchange.span_id}
    assert {span.trace_id for span in spans.values()} == {exchange.trace_id}
    found = attributes(exchange)
    assert found["luthien.outcome"] == "success"
    assert found["gen_ai.usage.output_tokens"] == 4
    (resource,) = {
        each.value.string_value
        for export in collector.requests
        for group in getattr(export, "resource_spans", ())
        for each in group.resource.attributes
        if each.key == "service.name"
    }
    assert resource == "shop"
    assert collector.metrics() >= {"gen_ai.server.request.duration", "luthien.exchange.duration"}


async def test_a_receiver_that_hangs_holds_no_traffic() -> None:
    with receiver(hung=True) as collector, exporting(collector.url) as host:
        assert (await host.exchange()).complete
        assert await to_thread.run_sync(collector.asked.wait, 10), (
            "the exporter's thread sits in its request now"
        )
        for _ in range(50):
            assert (await host.exchange()).complete
        assert host.sink.open == 0
        collector.answers.set()


async def test_nor_does_one_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "opentelemetry")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        with exporting(f"http://127.0.0.1:{taken.getsockname()[1]}") as host:
            for _ in range(10):
                assert (await host.exchange()).complete
            assert host.sink.open == 0
