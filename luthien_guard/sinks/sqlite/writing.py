"""Rows go in, once a key, and their calls' lines with them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from luthien_guard.sinks.sqlite import statements
from luthien_guard.sinks.sqlite.batches import in_batches
from luthien_guard.sinks.sqlite.transactions import transaction
from luthien_guard.store import EVENT_COLUMNS, Row, Written, begun, projected

__all__ = ["append"]

_columns: Final = attrgetter(*EVENT_COLUMNS)


def append(db: sqlite3.Connection, rows: Sequence[Row], *, durable: bool) -> Written:
    # In WAL mode a commit is in the log at once, and on disk at once only with FULL: that syncs the log, and so also what
    # was committed with NORMAL before. No checkpoint is needed: a log that is whole is replayed. (It cannot be changed
    # inside a transaction.) https://sqlite.org/pragma.html#pragma_synchronous
    db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    with transaction(db):
        kept, told = _without_pruned(db, rows)
        stored = in_batches(db, statements.INSERT_EVENT, list(map(_columns, kept)))
        conflicts = _conflicts(db, kept) if stored < len(kept) else ()
        refused = set(conflicts)
        told += [row for row in kept if row not in refused] if refused else kept
        in_batches(db, statements.UPSERT_CALL, statements.upserts(projected(told)))
    known = len(kept) - stored - len(conflicts)
    return Written(stored, known, conflicts, pruned=len(rows) - len(kept))


def _without_pruned(db: sqlite3.Connection, rows: Sequence[Row]) -> tuple[Sequence[Row], list[Row]]:
    """(the rows without those of calls that retention took, those of them whose call still has its line)"""
    if db.execute(statements.ANY_PRUNED).fetchone() is None:
        return rows, []
    late = json.dumps(list({row.call_id for row in rows} - begun(rows)))
    gone = {call_id for (call_id,) in db.execute(statements.GONE, (late,))}
    if not gone:
        return rows, []
    lines = {each for each in gone if db.execute(statements.HAS_LINE, (each,)).fetchone()}
    return [row for row in rows if row.call_id not in gone], [row for row in rows if row.call_id in lines]


def _conflicts(db: sqlite3.Connection, rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows whose key is there with another content."""
    query = "SELECT hash FROM conversation_events WHERE call_id = ? AND seq = ?"
    there = ((row, db.execute(query, (row.call_id, row.seq)).fetchone()) for row in rows)
    return tuple(row for row, found in there if found is not None and found[0] != row.hash)
