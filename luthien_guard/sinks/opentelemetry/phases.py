"""The children of an exchange's span: one for each phase, and in it one for each policy that intervened.

They are made when their end is known, with the times of the records: nothing has to be kept open, and an exchange that
never ends leaves no half of a tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode, Tracer, set_span_in_context

from luthien_guard.sinks.opentelemetry import semconv

__all__ = ["Phase", "Phases", "PolicyFacts"]


@dataclass(slots=True)
class PolicyFacts:
    """What one policy did in one phase; times in Unix nanoseconds."""

    name: str
    begun: int
    ended: int
    verdict: str
    hook: str | None
    error: str | None = None


@dataclass(slots=True)
class Phase:
    name: str
    begun: int
    ended: int  # so far: the time of its last fact
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    policies: dict[str, PolicyFacts] = field(default_factory=dict[str, PolicyFacts])
    error: str | None = None

    def fact(self, at: int, policy: str, verdict: str, hook: str | None, error: str | None) -> None:
        self.ended = max(self.ended, at)
        found = self.policies.get(policy)
        if found is None:
            self.policies[policy] = PolicyFacts(policy, at, at, verdict, hook, error)
            return
        found.ended = max(found.ended, at)
        if verdict != "change":  # whatever else it said weighs more
            found.verdict, found.hook, found.error = verdict, hook, error


class Phases:
    """Request, upstream and response of one exchange, once more for every retry."""

    def __init__(self, tracer: Tracer, context: Context, begun: int) -> None:
        self._tracer = tracer
        self._context = context
        self.current = Phase(semconv.REQUEST_SPAN, begun, begun)

    def sent(self, at: int) -> None:
        """The policies are through with the request."""
        self._turn(semconv.UPSTREAM_SPAN, at)

    def answered(self, at: int, attributes: Mapping[str, Any], error: str | None) -> None:
        """The head of a response is there."""
        if self.current.name != semconv.UPSTREAM_SPAN:
            self._turn(semconv.UPSTREAM_SPAN, self.current.ended)
        self.current.attributes.update(attributes)
        self.current.error = error
        self._turn(semconv.RESPONSE_SPAN, at)

    def close(self, at: int, *, went_up: bool, error: str | None, hooks: Mapping[str, float]) -> None:
        if self.current.name == semconv.REQUEST_SPAN and went_up:
            self._turn(semconv.UPSTREAM_SPAN, self.current.ended)
        self.current.error = error
        self._finish(at, hooks)

    def _turn(self, name: str, at: int) -> None:
        at = max(at, self.current.begun)
        self._finish(at, {})
        self.current = Phase(name, at, at)

    def _finish(self, at: int, hooks: Mapping[str, float]) -> None:
        phase = self.current
        span = self._tracer.start_span(
            phase.name, self._context, attributes=phase.attributes, start_time=phase.begun
        )
        try:
            if span.is_recording():
                context = set_span_in_context(span, self._context)
                for facts in phase.policies.values():
                    self._policy(context, facts, hooks.get(facts.name))
                if phase.error is not None:
                    span.set_attribute(semconv.ERROR_TYPE, phase.error)
                    span.set_status(Status(StatusCode.ERROR))
        finally:
            span.end(max(at, phase.begun))

    def _policy(self, context: Context, facts: PolicyFacts, seconds: float | None) -> None:
        attributes: dict[str, Any] = {semconv.POLICY_NAME: facts.name, semconv.POLICY_VERDICT: facts.verdict}
        if facts.hook is not None:
            attributes[semconv.POLICY_HOOK] = facts.hook
        if seconds is not None:
            attributes[semconv.POLICY_SECONDS] = seconds
        name = f"{semconv.POLICY_SPAN} {facts.name}"
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=facts.begun)
        if facts.error is not None:
            span.set_attribute(semconv.ERROR_TYPE, facts.error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(facts.ended)
