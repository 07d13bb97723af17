"""The rows of a call, and the chain of hashes that shows whether one was changed, taken out or put in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from luthien_guard.records import EventType

__all__ = ["EVENT_COLUMNS", "NONSENSE", "PAGE", "Row", "begun", "chained", "id_at", "intact", "paged"]

T = TypeVar("T")

EVENT_COLUMNS: Final = ("call_id", "seq", "at", "event_type", "policy", "payload", "prev_hash", "hash")

#: What reading rows may raise that were never written by a guard.
NONSENSE: Final = (ValueError, TypeError, AttributeError, RecursionError, OverflowError)

#: Characters of payloads that are read at once: of the largest requests a few hundred rows would fill the memory.
PAGE: Final = 16 * 1024 * 1024

_CLOSED: Final = EventType.CLOSED.value


@dataclass(frozen=True, slots=True)
class Row:
    """One record as it is stored. `at`: Unix seconds; `payload`: a JSON object; the hashes are hex SHA-256."""

    call_id: str
    seq: int
    at: float
    event_type: str
    policy: str | None
    payload: str
    prev_hash: str
    hash: str

    @property
    def details(self) -> dict[str, Any]:
        """The payload, parsed. Raises ValueError where no guard wrote it."""
        found: dict[str, Any] = json.loads(self.payload)
        return found


def chained(
    call_id: str, seq: int, at: float, event_type: str, policy: str | None, payload: str, prev_hash: str
) -> Row:
    """The row with its hash: over every column and the hash before it, so that no row can be changed, taken out or
    put in without breaking the chain. The first `prev_hash` of a call is the empty string."""
    text = json.dumps([prev_hash, call_id, seq, repr(at), event_type, policy, payload], ensure_ascii=True)
    return Row(
        call_id, seq, at, event_type, policy, payload, prev_hash, hashlib.sha256(text.encode()).hexdigest()
    )


def intact(row: Row) -> bool:
    """The row is what was chained, to the last bit; whatever there is instead of it."""
    columns = (row.call_id, row.seq, row.at, row.event_type, row.policy, row.payload, row.prev_hash)
    try:
        return chained(*columns).hash == row.hash
    except NONSENSE:
        return False


def begun(rows: Iterable[Row]) -> set[str]:
    """The calls whose beginning is among these: new to the store, whatever their ids say, for clocks are set back. (An
    end without a row before it is all that is left of a call whose process died.)"""
    return {row.call_id for row in rows if row.seq == 0 and row.event_type != _CLOSED}


def id_at(moment: float) -> str:
    """What the ids (UUIDv7) of that moment begin with. `moment`: Unix seconds."""
    digits = f"{int(min(max(moment * 1000, 0), 2**48 - 1)):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def paged(items: Iterable[T], payload: Callable[[T], object]) -> Iterator[T]:
    """As many as are within PAGE, and at least one. (A payload that is no text was never written.)"""
    left = PAGE
    for each in items:
        yield each
        text = payload(each)
        left -= len(text) if isinstance(text, str | bytes) else 0
        if left <= 0:
            return
