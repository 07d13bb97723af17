"""One exchange on its way through telemetry: begun with its first record, told every other, ended with its last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.context import get_current
from opentelemetry.trace import INVALID_SPAN

from luthien_guard.records import EventType, Record
from luthien_guard.sinks.opentelemetry import closing, semconv, values
from luthien_guard.sinks.opentelemetry.context import Place
from luthien_guard.sinks.opentelemetry.opening import place
from luthien_guard.sinks.opentelemetry.phases import Phases
from luthien_guard.sinks.opentelemetry.shared import Facts, Telemetry, nanoseconds, present

__all__ = ["ExchangeTrace", "Unheard"]

_CAPTURED: Final = 2**22  # characters of a request that are parsed where its content is wanted


class ExchangeTrace:
    """The span of one exchange and its children."""

    __slots__ = ("_phases", "_shared", "facts", "place")

    def __init__(self, shared: Telemetry, record: Record) -> None:
        self._shared = shared
        self.facts = Facts.of(record, shared.names)
        self.place = place(shared, self.facts, record)
        self._phases: Phases | None = None  # where nobody looks there are no children
        if self.place.span.is_recording():
            self._read_request(record.details)
            if not self.place.host:
                self._phases = Phases(shared.tracer, self.place.context, nanoseconds(record.at))

    def _read_request(self, details: Mapping[str, Any]) -> None:
        """What the request asks for; with capture it is kept until it is known whether it was sent."""
        if self._shared.capture:
            self.facts.request = request = values.parsed(details.get("body"), limit=_CAPTURED)
        else:
            request = values.parsed(details.get("body"))
        if not self.place.host:
            self.place.span.set_attributes(values.parameters(request))

    @property
    def at(self) -> float:
        return self.facts.at

    # -- in between ----------------------------------------------------------------------------------------------------

    def tell(self, record: Record) -> None:
        """A record that is neither the first nor the last."""
        handler = _HANDLERS.get(record.type)
        if handler is not None:
            handler(self, record)

    def sent(self, record: Record) -> None:
        if self._phases is not None:
            self._phases.sent(nanoseconds(record.at))
            if self._shared.capture and record.details.get("body"):
                self.facts.request = values.parsed(record.details["body"], limit=_CAPTURED)

    def started(self, record: Record) -> None:
        self.facts.status = status = values.count(record.details.get("status"))
        if self._phases is not None:
            attempt = values.count(record.details.get("attempt"))
            attributes = present({semconv.STATUS_CODE: status, semconv.ATTEMPT: attempt or None})
            error = str(status) if status is not None and status >= 400 else None
            self._phases.answered(nanoseconds(record.at), attributes, error)

    def assembled(self, record: Record) -> None:
        """The response as it came, or (later, and then instead) as it left."""
        self.facts.answer = {**self.facts.answer, **record.details}
        self.facts.usage = self.facts.usage or record.details.get("usage")

    def used(self, record: Record) -> None:
        self.facts.usage = record.details.get("usage")

    def failed(self, record: Record) -> None:
        self.facts.failure = values.label(record.details.get("code"))
        self._event(semconv.FAILED, record, {semconv.ERROR_TYPE: self.facts.failure})

    def rejected(self, record: Record) -> None:
        self._event(semconv.REJECTED, record, {semconv.ERROR_TYPE: values.label(record.details.get("code"))})

    def noted(self, record: Record) -> None:
        self._event(semconv.NOTED, record, {})

    def recorded(self, record: Record) -> None:
        event = values.label(record.details.get("event"))
        attributes = {semconv.POLICY_NAME: record.policy, semconv.POLICY_EVENT: event}
        self._event(semconv.POLICY_RECORD, record, attributes)

    def intervened(self, record: Record) -> None:
        details, policy = record.details, record.policy or "unknown"
        verdict, error = _verdict(record)
        labels: dict[str, Any] = {
            semconv.POLICY_NAME: policy,
            semconv.POLICY_VERDICT: verdict,
            semconv.POLICY_ENFORCED: details.get("enforced", True) is True,
        }
        self._shared.instruments.verdicts.add(1, labels)
        hook = values.label(details.get("hook"))
        if self._phases is not None:
            self._phases.current.fact(nanoseconds(record.at), policy, verdict, hook, error)
        self._event(
            semconv.INTERVENTION, record, {**labels, semconv.POLICY_HOOK: hook, semconv.ERROR_TYPE: error}
        )

    def _event(self, name: str, record: Record, attributes: Mapping[str, Any]) -> None:
        span = self.place.span
        if not span.is_recording():
            return
        self.facts.events += 1
        if self.facts.events <= closing.MAX_EVENTS:
            found = {**attributes, semconv.REASON: self._reason(record.details)}
            span.add_event(name, present(found), nanoseconds(record.at))

    def _reason(self, details: Mapping[str, Any]) -> str | None:
        """Reasons and messages quote what was seen: they are content."""
        found = details.get("reason") or details.get("error")
        return values.text(found, 1024) if self._shared.capture.span and isinstance(found, str) else None

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self, record: Record) -> None:
        """Never leaves the span open, whatever a tracer does."""
        self.place.leave()
        try:
            self._close(record)
        finally:
            self._end(record.at)

    def _close(self, record: Record) -> None:
        shared, facts = self._shared, self.facts
        end = closing.Ending.of(facts, record, shared.names)
        closing.measure(shared, self.place, facts, end)
        if self._phases is not None:
            went_up = end.went_up(facts)
            self._phases.close(nanoseconds(record.at), went_up=went_up, error=end.error, hooks=end.hooks)
        if self.place.span.is_recording():
            closing.describe(self.place, facts, end)
            closing.capture(shared, self.place, facts, end)

    def abandon(self, at: float) -> None:
        """No end came, and there is no room to go on waiting for it."""
        self.place.leave()
        try:
            if self.place.span.is_recording():
                self.place.span.set_attribute(semconv.OUTCOME, "abandoned")
        finally:
            self._end(at)

    def _end(self, at: float) -> None:
        if not self.place.host:
            self.place.span.end(nanoseconds(max(at, self.facts.at)))


class Unheard:
    """An exchange in a process without an SDK: only log records may want to know of it."""

    __slots__ = ("at", "place")

    def __init__(self, record: Record) -> None:
        self.at = record.at
        self.place = Place(record.call_id, INVALID_SPAN, get_current(), kind="")

    def tell(self, record: Record) -> None:
        pass

    def close(self, record: Record) -> None:
        self.place.leave()

    def abandon(self, at: float) -> None:
        self.place.leave()


def _verdict(record: Record) -> tuple[str, str | None]:
    """What the policy did, and the name of the error if it failed."""
    if record.type is EventType.VERDICT:
        return values.label(record.details.get("verdict")) or values.OTHER, None
    if record.type is EventType.POLICY_ERROR:
        return "error", values.error_name(record.details.get("error"))
    return "change", None


_Handler = Callable[[ExchangeTrace, Record], None]
_HANDLERS: Final[Mapping[EventType, _Handler]] = {
    EventType.REQUEST_SENT: ExchangeTrace.sent,
    EventType.REQUEST_REJECTED: ExchangeTrace.rejected,
    EventType.RESPONSE_STARTED: ExchangeTrace.started,
    EventType.RESPONSE_RECEIVED: ExchangeTrace.assembled,
    EventType.RESPONSE_RELEASED: ExchangeTrace.assembled,
    EventType.RESPONSE_NOTED: ExchangeTrace.noted,
    EventType.RESPONSE_FAILED: ExchangeTrace.failed,
    EventType.VERDICT: ExchangeTrace.intervened,
    EventType.CHANGED: ExchangeTrace.intervened,
    EventType.POLICY_ERROR: ExchangeTrace.intervened,
    EventType.POLICY_RECORD: ExchangeTrace.recorded,
    EventType.USAGE: ExchangeTrace.used,
}
