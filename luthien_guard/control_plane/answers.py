"""What the guard answers instead of the application: refusals and errors, in the client's wire format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.control_plane.service import Answer
from luthien_guard.engine.exchange import Exchange
from luthien_guard.errors import SinkError
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.records import EventType
from luthien_guard.wire.format import WireFormat

__all__ = ["UNRECORDED", "error_answer", "refusal", "unrecorded"]

UNRECORDED: Final = "The decision about this exchange could not be recorded, so it has no effect."
_SSE: Final = "text/event-stream; charset=utf-8"
_JSON: Final = "application/json"


def refusal(exchange: Exchange, message: str, usage: Mapping[str, Any] | None, *, stream: bool) -> Answer:
    """What a client gets whose request or whole answer was blocked: a complete answer, or an error if so configured."""
    if exchange.services.on_block == "error":
        return error_answer(exchange.format, *exchange.format.refusal, message)
    return Answer(200, _SSE if stream else _JSON, exchange.writer(stream=stream).end(message, usage))


async def unrecorded(exchange: Exchange) -> Answer | None:
    """Wait until the record of what was decided is durable. What to answer when it cannot be made so: the decision
    must then have no effect (unless the deployer prefers traffic to records)."""
    try:
        await exchange.record.settle()
    except SinkError as error:
        exchange.record(EventType.RESPONSE_FAILED, error=str(error), status=503, code="not_recorded")
        if exchange.services.on_unrecorded == "allow":
            return None
        exchange.decide_outcome(OutcomeStatus.POLICY_ERROR, reason=str(error))
        return error_answer(exchange.format, 503, "not_recorded", UNRECORDED)
    return None


def error_answer(format: WireFormat, status: int, code: str, message: str) -> Answer:
    return Answer(status, _JSON, format.error(status, code, message))
