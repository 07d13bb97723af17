"""What all exchanges of a sink share, and what is known of one of them so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry._logs import Logger
from opentelemetry.trace import Tracer

from luthien_guard.records import Record
from luthien_guard.sinks.opentelemetry import semconv, values
from luthien_guard.sinks.opentelemetry.content import Capture
from luthien_guard.sinks.opentelemetry.metrics import Instruments
from luthien_guard.sinks.opentelemetry.semconv import Conventions
from luthien_guard.sinks.opentelemetry.values import Vocabulary

__all__ = ["Facts", "Telemetry", "nanoseconds", "present"]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where telemetry goes, under which names, with how much content."""

    tracer: Tracer
    events: Logger
    instruments: Instruments
    names: Conventions
    capture: Capture
    models: Vocabulary


@dataclass(slots=True)
class Facts:
    """One exchange. `labels` are what its span and its metrics have in common."""

    call_id: str
    at: float  # when it began, Unix seconds
    wire_format: str
    stream: bool
    kind: str  # "server" or "client": by which door it came
    labels: dict[str, Any]
    request: Mapping[str, Any] = field(default_factory=dict[str, Any])  # parsed; only with capture
    answer: Mapping[str, Any] = field(default_factory=dict[str, Any])  # assembled
    usage: Any = None
    status: int | None = None  # of the response
    failure: str | None = None  # the code of what failed
    events: int = 0

    @classmethod
    def of(cls, record: Record, names: Conventions) -> Facts:
        details = record.details
        wire_format = str(details.get("wire_format", ""))
        kind = "server" if str(details.get("endpoint") or "").startswith("/") else "client"
        stream = details.get("stream") is True
        return cls(record.call_id, record.at, wire_format, stream, kind, _labels(details, wire_format, names))


def _labels(details: Mapping[str, Any], wire_format: str, names: Conventions) -> dict[str, Any]:
    labels: dict[str, Any] = {
        # a GET has no body; it fetches what another call made
        semconv.OPERATION: semconv.FETCH if details.get("body") == "" else semconv.CHAT,
        names.provider: semconv.PROVIDERS.get(wire_format, values.OTHER),
    }
    model = values.name_of(details.get("model"))
    return labels if model is None else {**labels, semconv.REQUEST_MODEL: model}


def nanoseconds(at: float) -> int:
    return int(at * 1e9)


def present(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that say nothing."""
    return {name: value for name, value in attributes.items() if value is not None}
