"""The beginning of an exchange's span, or the host's own span in its place."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context, get_current
from opentelemetry.trace import SpanKind, get_current_span, set_span_in_context

from luthien_guard.records import Record
from luthien_guard.sinks.opentelemetry import semconv, values
from luthien_guard.sinks.opentelemetry.context import Place, active, host_inference_span, parent_context
from luthien_guard.sinks.opentelemetry.shared import Facts, Telemetry, nanoseconds, present

__all__ = ["place"]


def place(shared: Telemetry, facts: Facts, record: Record) -> Place:
    """The span that tells about the exchange. Where the host has one open for the call, it is that one."""
    endpoint = values.label(record.details.get("endpoint"))
    own = {
        semconv.CALL_ID: facts.call_id,
        semconv.WIRE_FORMAT: facts.wire_format,
        semconv.ENDPOINT: endpoint,
        semconv.MODEL: facts.labels.get(semconv.REQUEST_MODEL),
        semconv.STREAM: facts.stream,
    }
    host = host_inference_span()
    if host is not None:
        host.set_attributes(present(own))
        return Place(facts.call_id, host, get_current(), kind=facts.kind, host=True)
    own[semconv.REQUEST_STREAM] = facts.stream
    own[semconv.CONVERSATION_ID] = values.label(record.details.get("session_id"))
    return _begun(shared, facts, parent_context(record.details), {**facts.labels, **present(own)})


def _begun(shared: Telemetry, facts: Facts, context: Context, attributes: dict[str, Any]) -> Place:
    model = facts.labels.get(semconv.REQUEST_MODEL)
    operation: str = facts.labels[semconv.OPERATION]
    span = shared.tracer.start_span(
        operation if model is None else f"{operation} {model}",
        context,
        _kind(facts.kind, context),
        attributes,
        start_time=nanoseconds(facts.at),
    )
    outer = active.get()
    if outer is not None and context is outer.context:
        outer.inner = True
    return Place(facts.call_id, span, set_span_in_context(span, context), kind=facts.kind)


def _kind(door: str, context: Context) -> SpanKind:
    """In a span of the host's own server ours is a step, not a second server."""
    if door == "client":
        return SpanKind.CLIENT
    around = get_current_span(context).get_span_context()
    return SpanKind.INTERNAL if around.is_valid and not around.is_remote else SpanKind.SERVER
