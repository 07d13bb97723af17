"""Facts about an exchange, as sinks get them: immutable, typed, one enum of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol

__all__ = ["CLASSES", "ENDED", "RECEIVED", "EventType", "Form", "Record", "RecordClass", "Sink", "weight"]


class EventType(str, Enum):
    """Every kind of fact. Names are data that others query: never rename one."""

    REQUEST_RECEIVED = "request.received"
    REQUEST_REJECTED = "request.rejected"  # malformed, too large, wrong encoding: why
    REQUEST_SENT = "request.sent"  # what really went upstream, where that is not what came
    RESPONSE_STARTED = "response.started"
    RESPONSE_RECEIVED = "response.received"  # assembled, as it came
    RESPONSE_RELEASED = "response.released"  # assembled, as it left, where that is not as it came
    RESPONSE_CHUNKS = "response.chunks"  # every chunk with its time; only where capture is on
    RESPONSE_NOTED = "response.noted"  # what upstream got wrong and passed under law 1
    RESPONSE_FAILED = "response.failed"
    VERDICT = "policy.verdict"
    CHANGED = "policy.changed"
    POLICY_RECORD = "policy.record"  # a policy's own ctx.record(...)
    POLICY_ERROR = "policy.error"
    ACTIVITY = "activity"  # shown to whoever watches; may be dropped
    USAGE = "usage"
    CLOSED = "exchange.closed"


class RecordClass(Enum):
    """What may happen to a record when it cannot be kept."""

    DECISION = "decision"  # never dropped: what it decided does not happen instead
    CONTENT = "content"  # may shrink to its hash and length, counted
    ACTIVITY = "activity"  # may be dropped, counted


_DECISIONS: Final = frozenset(
    {
        EventType.REQUEST_REJECTED,
        EventType.VERDICT,
        EventType.CHANGED,
        EventType.POLICY_ERROR,
        EventType.RESPONSE_STARTED,
        EventType.CLOSED,
    }
)
_ACTIVITIES: Final = frozenset({EventType.ACTIVITY, EventType.RESPONSE_NOTED, EventType.RESPONSE_CHUNKS})

CLASSES: Final[Mapping[EventType, RecordClass]] = {
    type: RecordClass.DECISION
    if type in _DECISIONS
    else RecordClass.ACTIVITY
    if type in _ACTIVITIES
    else RecordClass.CONTENT
    for type in EventType
}


@dataclass(frozen=True, slots=True)
class Form:
    """The names of the details of what is said of every exchange: the values alone go in a tuple, for half the cost."""

    type: EventType
    names: tuple[str, ...]

    def details(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self.names, values, strict=True))


RECEIVED: Final = Form(
    EventType.REQUEST_RECEIVED,
    (
        "wire_format",
        "endpoint",
        "model",
        "stream",
        "session_id",
        "user_id",
        "api_key_hash",
        "trace_id",
        "traceparent",
        "policy_version",
        "body",
    ),
)
ENDED: Final = Form(
    EventType.CLOSED,
    ("outcome", "reason", "model", "retries", "first_byte", "hooks", "wire_format"),
)


@dataclass(frozen=True, slots=True)
class Record:
    """One fact. `seq` counts from 0 without gaps within a call; `at` is Unix seconds."""

    call_id: str
    seq: int
    at: float
    type: EventType
    policy: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


def weight(details: Mapping[str, Any]) -> int:
    """About how many bytes of memory the details of a record hold: names and strings at any depth."""
    total = 256
    for name, value in details.items():
        total += len(name) + _weight(value)
    return total


def _weight(value: Any) -> int:
    kind = type(value)
    if kind is str:
        return len(value) + 64
    if kind is dict:
        return weight(value)
    if kind is list or kind is tuple:
        return 64 + sum(map(_weight, value))
    return 32


class Sink(Protocol):
    """Where records go. `put` is called from the traffic's own task: it must not block or await; it queues."""

    def put(self, record: Record) -> None:
        """Take one record. May raise: the delivery counts the drop and goes on."""
        ...
