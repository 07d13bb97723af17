"""What processes that have died left: rows in their spools, and calls without an end."""

from __future__ import annotations

import time
from pathlib import Path

from luthien_guard.delivery.spool import Spool
from luthien_guard.records import EventType
from luthien_guard.store import Store, Written, chained

__all__ = ["adopt", "interrupt"]


def adopt(path: Path, spool: Spool) -> None:
    """Take over the rows of another spool, and remove it."""
    other = Spool(path)
    other.open()
    while found := other.peek():
        spool.write([row for _, row in found], durable=True)
        other.forget([position for position, _ in found])
    other.close()
    other.remove()


def interrupt(store: Store, call_id: str) -> Written:
    """Close a call whose process has died. Its rows may have been pruned: then the end is all that there is of it."""
    rows = store.rows(call_id)
    seq, before = (rows[-1].seq + 1, rows[-1].hash) if rows else (0, "")
    payload = '{"outcome":"interrupted","reason":"the process that served it ended"}'
    return store.write(
        [chained(call_id, seq, time.time(), EventType.CLOSED.value, None, payload, before)],
        durable=True,
    )
