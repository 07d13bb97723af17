"""Which trace the running code belongs to: the host's, the guard's, and how it goes on over the wire."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context, get_current, get_value
from opentelemetry.propagate import inject as propagate
from opentelemetry.trace import Span, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from luthien_guard.sinks.opentelemetry import semconv

__all__ = ["Place", "active", "exchange_context", "host_inference_span", "inject", "parent_context"]

_W3C: Final = TraceContextTextMapPropagator()


class Place:
    """Where an exchange stands in its trace. `open` until it is closed: a context may be kept for longer."""

    __slots__ = ("call_id", "context", "host", "inner", "kind", "open", "outer", "span", "under")

    def __init__(self, call_id: str, span: Span, context: Context, *, kind: str, host: bool = False) -> None:
        self.call_id = call_id
        self.span = span
        self.context = context  # with `span` in it
        self.kind = kind  # "server" or "client"
        self.host = host  # the span is the host's own
        self.under = trace.get_current_span().get_span_context()  # what was current
        self.inner = False  # a guarded client call was made inside: its tokens are counted there
        self.open = True
        around = active.get()
        self.outer = around if around is not None and around.open else None

    @property
    def span_context(self) -> SpanContext:
        return self.span.get_span_context()

    def enter(self) -> None:
        """The code that follows in this task belongs to the exchange."""
        if active.get() is not self:
            active.set(self)

    def leave(self) -> None:
        """The exchange is over; where the task still points at it, the one around it takes its place."""
        self.open = False
        outer, self.outer = self.outer, None
        if active.get() is self:
            active.set(outer if outer is not None and outer.open else None)


#: The exchange that the running code serves or makes. Ours: OpenTelemetry's current span is never touched, because
#: nobody could put it back in every case (a stream may be closed by another task than the one that began it).
active: ContextVar[Place | None] = ContextVar("luthien_guard_trace", default=None)


def host_inference_span() -> Span | None:
    """The current span, if the host has it open for this very call of a model."""
    span = trace.get_current_span()
    if get_value(semconv.HOST_INFERENCE_KEY) is not None:
        return span
    attributes = getattr(span, "attributes", None)  # the API has none; the SDK's spans can be read
    if not span.is_recording() or not isinstance(attributes, Mapping) or not attributes:
        return None
    operation = attributes.get(semconv.OPERATION)
    if operation is not None:
        return span if operation in semconv.INFERENCE else None
    name, kind = semconv.HOST_KIND
    marked = attributes.get(name) == kind or any(mark in attributes for mark in semconv.HOST_MARKS)
    return span if marked else None


def parent_context(details: Mapping[str, Any]) -> Context:
    """What the exchange's span hangs on: the current span; the exchange around it; the caller's headers."""
    current = get_current()
    here = trace.get_current_span(current).get_span_context()
    outer = active.get()
    if outer is not None and outer.open and outer.kind == "server" and here == outer.under:
        return outer.context  # nothing newer is current than what the outer exchange itself hangs on
    if here.is_valid or not isinstance(details.get("traceparent"), str):
        return current
    headers = {
        key: details[key] for key in ("traceparent", "tracestate") if isinstance(details.get(key), str)
    }
    return _W3C.extract(headers, current)


def exchange_context() -> Context:
    """The context with the running exchange's span in it, to start spans of one's own under it; without an exchange
    the current context."""
    place = active.get()
    return place.context if place is not None and place.open else get_current()


def inject(headers: MutableMapping[str, str]) -> None:
    """Put `traceparent` (or whatever the process propagates) of the running exchange into an upstream call's headers."""
    propagate(headers, context=exchange_context())
