"""Which calls a `CallFilter` wants."""

from __future__ import annotations

from collections.abc import Sequence

from luthien_guard.sinks.jsonl.index import Entry
from luthien_guard.store import Call, CallFilter, Row

__all__ = ["fits", "says"]


def fits(call: Call, entry: Entry, wanted: CallFilter) -> bool:
    same = ("model", "endpoint", "outcome", "session_id")
    return (
        all(getattr(wanted, name) in (None, getattr(call, name)) for name in same)
        and (wanted.policy is None or wanted.policy in entry.policies)
        and (wanted.since is None or entry.began >= wanted.since)
        and (wanted.until is None or entry.began < wanted.until)
        and (
            wanted.named is None
            or call.call_id.startswith(wanted.named)
            or call.call_id.endswith(wanted.named)
        )
        and (wanted.before is None or call.call_id < wanted.before)
    )


def says(row: Row, texts: Sequence[str]) -> bool:
    payload = row.payload.lower()
    return any(text in payload for text in texts)
