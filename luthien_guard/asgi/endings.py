"""How exchanges end that nobody decided to end: what the client is told, and what goes on record."""

from __future__ import annotations

from typing import Final

from luthien_guard.exchange import Outcome, OutcomeStatus
from luthien_guard.pipeline import Expiry

__all__ = [
    "BROKEN",
    "CANCELLED",
    "CUT_OFF",
    "ENDED",
    "GONE",
    "RETRIES",
    "ended",
    "failed",
    "refused",
    "undecided",
]

ENDED: Final = Expiry(502, "upstream_error", "the upstream ended its answer before it was complete")
BROKEN: Final = Expiry(500, "internal_error", "the guard failed to decide about this answer")
CUT_OFF: Final = Expiry(503, "cancelled", "the server ended this answer before it was complete")
RETRIES: Final = Expiry(502, "too_many_retries", "a policy asked for more retries than are allowed")

GONE: Final = Outcome(OutcomeStatus.CANCELLED, reason="the client disconnected")
CANCELLED: Final = Outcome(OutcomeStatus.CANCELLED, reason="the exchange was cancelled")


def failed(error: BaseException) -> Outcome:
    """The application raised it."""
    return Outcome(OutcomeStatus.UPSTREAM_ERROR, reason=f"the application raised {type(error).__name__}")


def undecided(error: BaseException | None) -> Outcome:
    """The guard raised it before the application ran."""
    return Outcome(OutcomeStatus.POLICY_ERROR, reason=f"the guard raised {error!r}")


def ended(expiry: Expiry) -> Outcome:
    """It was ended from here, and the plane was not asked."""
    statuses = {
        504: OutcomeStatus.TIMEOUT,
        503: OutcomeStatus.CANCELLED,
        502: OutcomeStatus.UPSTREAM_ERROR,
    }
    return Outcome(statuses.get(expiry.status, OutcomeStatus.POLICY_ERROR), reason=expiry.message)


def refused(status: int) -> Outcome | None:
    """It is complete, and nobody has looked at its body."""
    return None if status < 400 else Outcome(OutcomeStatus.UPSTREAM_ERROR, reason=f"status {status}")
