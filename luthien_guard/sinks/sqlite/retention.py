"""What goes when there is too much. SQL chooses and deletes: an id that is no text any more goes like the others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from luthien_guard.sinks.sqlite.transactions import transaction
from luthien_guard.store import id_at

__all__ = ["by_age", "by_size", "size"]

#: Does some work with the database, under the lock of the store.
Do = Callable[[Callable[[sqlite3.Connection], Any]], Any]

_BATCH: Final = 200  # calls a transaction: nobody else waits long
_OLD: Final = "(c.started_at < ? OR c.started_at IS NULL AND c.call_id < ?)"
_HAS_EVENTS: Final = "EXISTS (SELECT 1 FROM conversation_events e WHERE e.call_id = c.call_id)"
#: What a call takes up, about: 300 bytes a row for the hashes, the keys and their indexes.
_SIZES: Final = (
    "SELECT (SELECT coalesce(sum(length(CAST(e.payload AS BLOB)) + 300), 300) FROM conversation_events e "
    "WHERE e.call_id = c.call_id) FROM ({}) c ORDER BY c.call_id"
)
#: Of what was chosen: the greatest id, which is remembered.
_REMEMBER: Final = (
    "INSERT INTO conversation_pruned SELECT max(call_id) FROM ({}) WHERE typeof(call_id) = 'text' "
    "HAVING max(call_id) > coalesce((SELECT max(call_id) FROM conversation_pruned), '')"
)
_FORGET: Final = (
    "DELETE FROM conversation_pruned WHERE call_id < (SELECT max(call_id) FROM conversation_pruned)"
)
_USED: Final = (
    "SELECT (page_count - freelist_count) * page_size "
    "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)


def by_age(do: Do, before: float, events_only: bool) -> int:
    """Delete what started before `before`. Returns the number of calls touched."""
    count = 0
    chosen, values = _chosen(events_only, _OLD), (before, id_at(before), _BATCH)
    while found := do(partial(_deleted, chosen=chosen, values=values, events_only=events_only)):
        count += found
    return count


def by_size(do: Do, most: int, events_only: bool) -> int:
    """Delete the oldest until all is within `most` bytes. The newest call always stays."""
    count = 0
    chosen = _chosen(events_only, "c.call_id < (SELECT max(call_id) FROM conversation_calls)")
    while (excess := do(size) - most) > 0:
        needed = do(partial(_enough, chosen=chosen, excess=excess))
        if not needed:
            break
        count += do(partial(_deleted, chosen=chosen, values=(needed,), events_only=events_only))
    return count


def size(db: sqlite3.Connection) -> int:
    """Bytes of pages in use."""
    return int(db.execute(_USED).fetchone()[0])


def _chosen(events_only: bool, condition: str) -> str:
    """The SQL of the ids of the oldest calls for which the condition holds; its last parameter is how many."""
    having = f"AND {_HAS_EVENTS}" if events_only else ""
    return f"SELECT c.call_id FROM conversation_calls c WHERE {condition} {having} ORDER BY c.call_id LIMIT ?"


def _enough(db: sqlite3.Connection, chosen: str, excess: int) -> int:
    """How many of the oldest calls can hold so many bytes."""
    count = 0
    for (bytes_,) in db.execute(_SIZES.format(chosen), (_BATCH,)):
        if excess <= 0:
            break
        count += 1
        excess -= bytes_
    return count


def _deleted(db: sqlite3.Connection, chosen: str, values: Sequence[Any], events_only: bool) -> int:
    """Delete these calls, or their events. Returns how many there were."""
    with transaction(db):
        (count,) = db.execute(f"SELECT count(*) FROM ({chosen})", values).fetchone()
        if count:
            db.execute(_REMEMBER.format(chosen), values)
            db.execute(_FORGET)
            # Events first: with `events_only` it is by them that calls are chosen.
            db.execute(f"DELETE FROM conversation_events WHERE call_id IN ({chosen})", values)
        if count and not events_only:
            db.execute(f"DELETE FROM conversation_calls WHERE call_id IN ({chosen})", values)
    return int(count)
