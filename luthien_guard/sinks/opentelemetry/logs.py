"""Trace and span ids in log records."""

from __future__ import annotations

import logging

from opentelemetry import trace
from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

from luthien_guard.sinks.opentelemetry.context import Place, active

__all__ = ["LogCorrelation"]


class LogCorrelation(logging.Filter):
    """Gives every log record `trace_id` and `span_id` (hex; "0" where there is none) and `call_id`.

    Add it to the logger `luthien_guard` or to a handler; it lets every record pass. The ids are those of the exchange
    in which the record was made, else those of the current span.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the ids of the running exchange into the record. Every record passes."""
        place = active.get()
        place = place if place is not None and place.open else None
        found = _span_context(place)
        record.trace_id = format_trace_id(found.trace_id) if found.is_valid else "0"
        record.span_id = format_span_id(found.span_id) if found.is_valid else "0"
        if not hasattr(record, "call_id"):
            record.call_id = place.call_id if place is not None else ""
        return True


def _span_context(place: Place | None) -> SpanContext:
    if place is not None and place.span_context.is_valid:
        return place.span_context
    return trace.get_current_span().get_span_context()
