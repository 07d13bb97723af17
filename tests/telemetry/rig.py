"""A sink with the SDK behind it that keeps everything in memory, a guard over it, and traffic."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.records import EventType, Record
from luthien_guard.sinks.opentelemetry import OpenTelemetrySink
from tests.asgi.host import JSON, SSE, Heard, Speaker, visit

CHANGING = {"luthien.call_id", "gen_ai.response.time_to_first_chunk"}  # other in every run


class Collected:
    """Everything that came out."""

    def __init__(self, **options: Any) -> None:
        self.spans_out = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans_out))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.events_out = InMemoryLogRecordExporter()
        loggers = LoggerProvider(shutdown_on_exit=False)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(self.events_out))
        self.sink = OpenTelemetrySink(self.tracers, self.meters, loggers, **options)
        self.tracer = self.tracers.get_tracer("host")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.spans_out.get_finished_spans()

    def named(self, start: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.startswith(start)]

    @property
    def exchange(self) -> ReadableSpan:
        (found,) = [span for span in self.spans if "luthien.call_id" in (span.attributes or {})]
        return found

    def tree(self) -> list[str]:
        """The spans as an indented list, in order of their begin; events with a dash."""
        ids = {span.context.span_id for span in self.spans if span.context}
        roots = [span for span in self.spans if span.parent is None or span.parent.span_id not in ids]
        return list(self._lines(roots, ""))

    def _lines(self, spans: Iterable[ReadableSpan], indent: str) -> Iterable[str]:
        for span in sorted(spans, key=lambda each: each.start_time or 0):
            yield f"{indent}{span.name}"
            for event in span.events:
                yield f"{indent}- {event.name}"
            assert span.context is not None
            below = [
                each for each in self.spans if each.parent and each.parent.span_id == span.context.span_id
            ]
            yield from self._lines(below, indent + "  ")

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Name -> [(attributes, value)]; a histogram's value is its count and sum."""
        data = self.reader.get_metrics_data()
        found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = [
                        (dict(point.attributes or {}), _value(point)) for point in metric.data.data_points
                    ]
        return found

    def everything(self) -> str:
        """All telemetry as one text, to look for what must not be in it."""
        spans = [span.to_json() for span in self.spans]
        events = [each.to_json() for each in self.events_out.get_finished_logs()]
        return "\n".join([*spans, *events, str(self.metrics())])


def _value(point: Any) -> Any:
    return (point.count, point.sum) if hasattr(point, "bucket_counts") else point.value


def steady(span: ReadableSpan) -> dict[str, Any]:
    """The attributes that are the same in every run."""
    return {name: value for name, value in (span.attributes or {}).items() if name not in CHANGING}


# -- traffic -----------------------------------------------------------------------------------------------------------


def asking(text: str = "hi", **more: Any) -> bytes:
    return json.dumps({"model": "gpt-4", "messages": [{"role": "user", "content": text}], **more}).encode()


def answer(text: str = "one two three", **more: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4-0613", "choices": [choice]}
    return json.dumps({**body, "usage": usage, **more}).encode()


def stream(*texts: str) -> list[bytes]:
    """Frames of a stream: the texts, a finish, usage, the end."""
    deltas = [{"delta": {"content": text}, "finish_reason": None} for text in texts]
    choices = [{"index": 0, **each} for each in [*deltas, {"delta": {}, "finish_reason": "stop"}]]
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    bodies: list[dict[str, Any]] = [{"choices": [choice]} for choice in choices]
    bodies.append({"choices": [], "usage": usage})
    envelope = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4-0613"}
    frames = [b"data: " + json.dumps({**envelope, **body}).encode() + b"\n\n" for body in bodies]
    return [*frames, b"data: [DONE]\n\n"]


async def served(
    collected: Collected, *pieces: bytes, policies: Iterable[Any] = (), ask: bytes = b"", **options: Any
) -> Heard:
    """One exchange through the middleware; what the client heard."""
    streamed = pieces[0].startswith(b"data:") if pieces else False
    headers = SSE if streamed else JSON
    app = options.pop("app", None) or Speaker(*pieces, headers=headers, status=options.pop("status", 200))
    visiting = {key: options.pop(key) for key in ("headers", "path", "query_string") if key in options}
    guard = Guard(policies, sinks=[collected.sink], **options)
    body = ask or asking(stream=streamed)
    return await visit(GuardMiddleware(app, guard=guard), body=body, **visiting)


# -- records made by hand ----------------------------------------------------------------------------------------------


def recorder(put: Callable[[Record], None], call_id: str = "c1", at: float = 1000.0) -> Callable[..., None]:
    """`record(type, policy=None, after=seconds since the begin, **details)`."""
    seq = -1

    def record(type: EventType, policy: str | None = None, after: float = 0.0, **details: Any) -> None:
        nonlocal seq
        seq += 1
        put(Record(call_id, seq, at + after, type, policy, details))

    return record
