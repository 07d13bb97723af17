"""Facts about an exchange, as sinks get them: immutable, typed, one enum of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

__all__ = ["EventType", "Record", "Sink"]


class EventType(str, Enum):
    """Every kind of fact. Names are data that others query: never rename one."""

    REQUEST_RECEIVED = "request.received"
    REQUEST_REJECTED = "request.rejected"  # malformed, too large, wrong encoding: why
    REQUEST_SENT = "request.sent"  # what really went upstream
    RESPONSE_STARTED = "response.started"
    RESPONSE_RECEIVED = "response.received"  # assembled, as it came
    RESPONSE_RELEASED = "response.released"  # assembled, as it left
    RESPONSE_NOTED = "response.noted"  # what upstream got wrong and passed under law 1
    RESPONSE_FAILED = "response.failed"
    VERDICT = "policy.verdict"
    CHANGED = "policy.changed"
    POLICY_RECORD = "policy.record"  # a policy's own ctx.record(...)
    POLICY_ERROR = "policy.error"
    USAGE = "usage"
    CLOSED = "exchange.closed"


@dataclass(frozen=True, slots=True)
class Record:
    """One fact. `seq` counts from 0 without gaps within a call; `at` is Unix seconds."""

    call_id: str
    seq: int
    at: float
    type: EventType
    policy: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Sink(Protocol):
    """Where records go. `put` is called from the traffic's own task: it must not block or await; it queues."""

    def put(self, record: Record) -> None:
        """Take one record. May raise: the delivery counts the drop and goes on."""
        ...
