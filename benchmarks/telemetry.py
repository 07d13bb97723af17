"""Microseconds of CPU that telemetry adds to an exchange: without an SDK, with one, unsampled, with content."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import anyio

from benchmarks.engine import exchange
from benchmarks.table import interleaved, report
from benchmarks.traffic import REQUEST, Reads, stream_of
from luthien_guard import Guard

NUMBER = 300
LARGE = json.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 40_000}]}).encode()


def run(
    sinks: Sequence[Any],
    request: bytes = REQUEST,
    chunks: int = 20,
    *,
    guard: Guard | None = None,
    number: int = NUMBER,
) -> Callable[[], float]:
    """Whole exchanges through the engine, `chunks` chunks each; microseconds of CPU for one."""
    guard = guard or Guard([Reads()], sinks=sinks)
    wire = stream_of(chunks)

    async def many() -> float:
        began = time.process_time()
        for _ in range(number):
            await exchange(guard, wire, request)
        return (time.process_time() - began) / number * 1e6

    return lambda: anyio.run(many)


def alone(sink: Any) -> Callable[[], float]:
    """The sink by itself, fed with the records of one such exchange again and again."""
    guard = Guard([Reads()])
    once = run([], guard=guard, number=1)
    once()
    records = guard.records_of(guard.recent_calls[-1])

    def many(number: int = 3000) -> float:
        began = time.process_time()
        for _ in range(number):
            for record in records:
                sink.put(record)
        return (time.process_time() - began) / number * 1e6

    return many


class Nothing:
    """Takes records and does nothing: the cost of the call."""

    def put(self, record: Any) -> None:
        pass


def by_hand(tracers: Any, meters: Any) -> Callable[[], float]:
    """What the SDK itself costs: four bare spans, three numbers."""
    from opentelemetry.trace import set_span_in_context

    tracer = tracers.get_tracer("by hand")
    histograms = [meters.get_meter("by hand").create_histogram(f"h{number}") for number in range(3)]

    def many(number: int = 3000) -> float:
        began = time.process_time()
        for _ in range(number):
            span = tracer.start_span("chat m", attributes={"model": "m", "stream": True})
            context = set_span_in_context(span)
            for name in ("request", "upstream", "response"):
                tracer.start_span(name, context).end()
            span.set_attributes({"outcome": "success", "tokens": 1})
            for histogram in histograms:
                histogram.record(1.0, {"model": "m"})
            span.end()
        return (time.process_time() - began) / number * 1e6

    return many


def main() -> None:
    from luthien_guard.sinks.opentelemetry import Capture, OpenTelemetrySink

    sinks = {"nothing": alone(Nothing()), "no SDK": alone(OpenTelemetrySink())}
    sdk, unsampled = _sdk(), _sdk(sampled=False)
    sinks["SDK, unsampled, no metrics"] = alone(OpenTelemetrySink(unsampled[0]))
    sinks["SDK, unsampled, metrics"] = alone(OpenTelemetrySink(*unsampled))
    sinks["(four bare spans, three numbers)"] = by_hand(*sdk)
    sinks["SDK, spans and metrics"] = alone(OpenTelemetrySink(*sdk))
    sinks["SDK, with content"] = alone(OpenTelemetrySink(*sdk, capture=Capture(span=True)))
    report("telemetry, the sink alone, per exchange", "us of CPU", interleaved(sinks), baseline="nothing")
    variants = {
        "no sink": run([]),
        "no SDK": run([OpenTelemetrySink()]),
        "no sampling, metrics": run([OpenTelemetrySink(*unsampled)]),
        "spans and metrics": run([OpenTelemetrySink(*sdk)]),
        "with content": run([OpenTelemetrySink(*sdk, capture=Capture(span=True))]),
    }
    title = "telemetry, per exchange of 20 chunks, with an SDK whose exporter discards"
    report(title, "us of CPU", interleaved(variants), baseline="no sink")
    large = {
        "no sink": run([], LARGE),
        "spans and metrics": run([OpenTelemetrySink(*sdk)], LARGE),
        "with content": run([OpenTelemetrySink(*sdk, capture=Capture(span=True))], LARGE),
    }
    report("the same for a request of 200 kB", "us of CPU", interleaved(large), baseline="no sink")


def _sdk(*, sampled: bool = True) -> tuple[Any, Any]:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    class Discarding(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    tracers = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF)
    tracers.add_span_processor(BatchSpanProcessor(Discarding()))
    return tracers, MeterProvider()


if __name__ == "__main__":
    main()
