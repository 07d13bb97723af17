"""Records to rows: payload as JSON, each row's hash over the one before it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from luthien_guard.records import EventType, Record
from luthien_guard.store import Row, chained, payload_of

__all__ = ["Chain", "shrunk"]


class Chain:
    """The last hash of every open call. Used by one thread."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    @property
    def open(self) -> bool:
        return bool(self._last)

    def row(self, record: Record) -> Row:
        row = chained(
            record.call_id,
            record.seq,
            record.at,
            record.type.value,
            record.policy,
            _payload(record),
            self._last.get(record.call_id, ""),
        )
        if record.type is EventType.CLOSED:
            self._last.pop(record.call_id, None)
        else:
            self._last[record.call_id] = row.hash
        return row


def shrunk(record: Record) -> Record:
    """What stays of content for which there is no room: enough to prove later what it was."""
    text = _payload(record).encode()
    details = {"degraded": True, "sha256": hashlib.sha256(text).hexdigest(), "length": len(text)}
    return replace(record, details=details)


def _payload(record: Record) -> str:
    """A policy may have put anything into a record; that it did is then what stays of it."""
    try:
        return payload_of(record.details)
    except Exception as error:  # noqa: BLE001 -- what the objects of strangers do when they become text
        return payload_of({"degraded": True, "unreadable": type(error).__name__})
