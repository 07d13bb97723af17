"""The end of an exchange: what its span says of it, what the metrics count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.trace import Span, Status, StatusCode

from luthien_guard.records import Record
from luthien_guard.sinks.opentelemetry import content, semconv, values
from luthien_guard.sinks.opentelemetry.context import Place
from luthien_guard.sinks.opentelemetry.semconv import Conventions
from luthien_guard.sinks.opentelemetry.shared import Facts, Telemetry, nanoseconds, present

__all__ = ["MAX_EVENTS", "Ending", "capture", "describe", "measure"]

MAX_EVENTS: Final = 64  # of one span: a hostile upstream can make a policy intervene as often as it likes
_CHOICES: Final = 128  # whose finish reasons are told
_UNANSWERED: Final = ("blocked", "policy_error")  # without a response: then nothing went upstream


@dataclass(frozen=True, slots=True)
class Ending:
    """The last record, read."""

    at: float
    lasted: float  # seconds
    outcome: str
    error: str | None
    policy: str | None  # whose verdict ended it
    usage: Mapping[str, int]
    hooks: Mapping[str, float]  # seconds by policy
    first_byte: float | None  # seconds; of streams only
    chunks: int | None
    retries: int | None
    lost: int | None  # records

    @classmethod
    def of(cls, facts: Facts, record: Record, names: Conventions) -> Ending:
        details = record.details
        outcome = values.label(details.get("outcome")) or values.OTHER
        return cls(
            at=record.at,
            lasted=max(record.at - facts.at, 0.0),
            outcome=outcome,
            error=_error(facts, outcome),
            policy=record.policy,
            usage=values.usage_of(facts.usage, facts.wire_format, names),
            hooks=_hooks(details.get("hooks")),
            first_byte=values.seconds(details.get("first_byte")) if facts.stream else None,
            chunks=values.count(details.get("chunk_count", facts.answer.get("chunk_count"))),
            retries=values.count(details.get("retries")),
            lost=values.count(details.get("lost")),
        )

    def went_up(self, facts: Facts) -> bool:
        """Something was asked of the upstream."""
        return facts.status is not None or self.outcome not in _UNANSWERED


def _error(facts: Facts, outcome: str) -> str | None:
    """A block is what the guard is for, and a client may leave: neither is an error of the operation."""
    if outcome == "upstream_error":
        return (
            str(facts.status)
            if facts.status is not None and facts.status >= 400
            else facts.failure or outcome
        )
    return outcome if outcome in ("policy_error", "timeout") else None


def _hooks(found: Any) -> dict[str, float]:
    """Seconds by policy, of seconds by policy and hook."""
    by_policy = found.items() if isinstance(found, Mapping) else ()
    return {
        name: sum(present({hook: values.seconds(each) for hook, each in spent.items()}).values())
        for name, spent in by_policy
        if isinstance(spent, Mapping)
    }


def describe(place: Place, facts: Facts, end: Ending) -> None:
    """Attributes of the whole; of the call itself only where the host does not set them."""
    own = {
        semconv.OUTCOME: end.outcome,
        semconv.CHUNK_COUNT: end.chunks,
        semconv.RETRIES: end.retries or None,
        semconv.BLOCKED_BY: end.policy,
        semconv.LOST: end.lost,
        semconv.EVENTS_DROPPED: facts.events - MAX_EVENTS if facts.events > MAX_EVENTS else None,
    }
    place.span.set_attributes(present(own))
    if not place.host:
        _describe_call(place.span, facts, end)


def _describe_call(span: Span, facts: Facts, end: Ending) -> None:
    found = {
        **end.usage,
        semconv.RESPONSE_MODEL: values.name_of(facts.answer.get("model")),
        semconv.FINISH_REASONS: _finish_reasons(facts.answer) or None,
        semconv.TIME_TO_FIRST_CHUNK: end.first_byte,
        semconv.ERROR_TYPE: end.error,
    }
    span.set_attributes(present(found))
    if end.error is not None:
        span.set_status(Status(StatusCode.ERROR))


def _finish_reasons(answer: Mapping[str, Any]) -> list[str]:
    choices = answer.get("choices")
    choices = choices[:_CHOICES] if isinstance(choices, list) else []
    found = [each.get("finish_reason") for each in choices if isinstance(each, Mapping)]
    return [name for name in map(values.label, found) if name is not None]


def capture(shared: Telemetry, place: Place, facts: Facts, end: Ending) -> None:
    """Content, as far as it was asked for. What a policy stopped never was an input of the model."""
    if not shared.capture or not end.went_up(facts):
        return
    found = content.messages(facts.request, facts.answer, facts.wire_format)
    if shared.capture.span:
        place.span.set_attributes({name: content.as_json(each) for name, each in found.items()})
    if shared.capture.event:
        shared.events.emit(
            timestamp=nanoseconds(end.at),
            context=place.context,
            event_name=semconv.DETAILS_EVENT,
            attributes={**facts.labels, semconv.CALL_ID: facts.call_id, **found},
        )


def measure(shared: Telemetry, place: Place, facts: Facts, end: Ending) -> None:
    """Every exchange counts here, sampled or not; a call that the host instruments counts there."""
    instruments = shared.instruments
    own: dict[str, Any] = {
        semconv.OUTCOME: end.outcome,
        semconv.WIRE_FORMAT: facts.wire_format,
        semconv.STREAM: facts.stream,
    }
    instruments.exchanges.record(end.lasted, own)
    for policy, spent in end.hooks.items():
        instruments.policies.record(spent, {semconv.POLICY_NAME: policy})
    if place.host:
        return
    labels = _metric_labels(shared, facts)
    if end.usage and not place.inner and labels[semconv.OPERATION] != semconv.FETCH:
        instruments.usage(end.usage.get(semconv.INPUT_TOKENS), end.usage.get(semconv.OUTPUT_TOKENS), labels)
    if end.first_byte is not None:
        instruments.first_chunk(facts.kind, end.first_byte, labels)
    failed = {} if end.error is None else {semconv.ERROR_TYPE: end.error}
    instruments.duration(facts.kind, end.lasted, {**labels, **failed})


def _metric_labels(shared: Telemetry, facts: Facts) -> dict[str, Any]:
    """Both models through the vocabulary: each new name would be a time series."""
    labels = dict(facts.labels)
    models = {
        semconv.REQUEST_MODEL: labels.pop(semconv.REQUEST_MODEL, None),
        semconv.RESPONSE_MODEL: values.name_of(facts.answer.get("model")),
    }
    return labels | {name: shared.models(model) for name, model in present(models).items()}
