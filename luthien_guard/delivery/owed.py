"""What must be on record before its effect: in mode `balanced` what somebody decided, in `strict` also that the exchange
went on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from luthien_guard.records import EventType

__all__ = ["OWED"]

_DECIDED: Final = frozenset(
    {EventType.REQUEST_REJECTED, EventType.VERDICT, EventType.CHANGED, EventType.POLICY_ERROR}
)
_WENT_ON: Final = frozenset({EventType.REQUEST_RECEIVED, EventType.REQUEST_SENT, EventType.RESPONSE_STARTED})

#: By durability.
OWED: Final[Mapping[str, frozenset[EventType]]] = {"balanced": _DECIDED, "strict": _DECIDED | _WENT_ON}
