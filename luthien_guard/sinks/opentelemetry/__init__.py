"""Traces and metrics through `opentelemetry-api`: `Guard(sinks=[OpenTelemetrySink()])`."""

from __future__ import annotations

from luthien_guard.sinks.opentelemetry.content import Capture
from luthien_guard.sinks.opentelemetry.context import exchange_context, inject
from luthien_guard.sinks.opentelemetry.logs import LogCorrelation
from luthien_guard.sinks.opentelemetry.sink import OpenTelemetrySink

__all__ = ["Capture", "LogCorrelation", "OpenTelemetrySink", "exchange_context", "inject"]
