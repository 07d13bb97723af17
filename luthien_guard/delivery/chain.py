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

    def row(self, record: Record) -> Row:
        row = chained(
            record.call_id,
            record.seq,
            record.at,
            record.type.value,
            record.policy,
            payload_of(record.details),
            self._last.get(record.call_id, ""),
        )
        if record.type is EventType.CLOSED:
            self._last.pop(record.call_id, None)
        else:
            self._last[record.call_id] = row.hash
        return row


def shrunk(record: Record) -> Record:
    """What stays of content for which there is no room: enough to prove later what it was."""
    text = payload_of(record.details).encode()
    details = {"degraded": True, "sha256": hashlib.sha256(text).hexdigest(), "length": len(text)}
    return replace(record, details=details)
