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
_SEEN: Final = (
    "NOT EXISTS (SELECT 1 FROM conversation_events e WHERE e.call_id = c.call_id AND e.position >= {})"
)
#: SQL of the ids of the oldest calls for which a condition holds; the last parameter is how many. Those that are listed:
_LISTED: Final = "SELECT c.call_id FROM conversation_calls c WHERE {} ORDER BY c.call_id LIMIT ?"
#: Those of which there are rows and no line: somebody took it.
_UNLISTED: Final = (
    "SELECT DISTINCT c.call_id FROM conversation_events c WHERE {} AND typeof(c.call_id) = 'text' "
    "AND NOT EXISTS (SELECT 1 FROM conversation_calls l WHERE l.call_id = c.call_id) ORDER BY c.call_id LIMIT ?"
)
_BEFORE_ALL_LISTED: Final = (
    "c.call_id < coalesce((SELECT min(c.call_id) FROM conversation_calls c WHERE {}), "
    "(SELECT max(call_id) FROM conversation_events))"
)
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


def by_age(do: Do, before: float, events_only: bool, end: int | None) -> int:
    """Delete what started before `before`. Returns the number of calls touched. `end`: the number of the first row that
    was not seen; calls that have such rows stay."""
    more = _conditions(events_only, end)
    listed = _LISTED.format(_all([_OLD, *more]))
    count = _all_deleted(do, listed, (before, id_at(before)), events_only)
    # after the others: what is still there with such an id is little
    unlisted = _UNLISTED.format(_all(["c.call_id < ?", *more]))
    return count + _all_deleted(do, unlisted, (id_at(before),), events_only)


def by_size(do: Do, most: int, events_only: bool, end: int | None) -> int:
    """Delete the oldest until all is within `most` bytes. The newest call always stays."""
    count = 0
    more = _conditions(events_only, end)
    listed = _LISTED.format(_all(["c.call_id < (SELECT max(call_id) FROM conversation_calls)", *more]))
    unlisted = _UNLISTED.format(_all([_BEFORE_ALL_LISTED.format(_all(more)), *more]))
    while (excess := do(size) - most) > 0:
        found = do(partial(_deleted, chosen=unlisted, values=(_BATCH,), events_only=events_only))
        if not found:
            needed = do(partial(_enough, chosen=listed, excess=excess))
            found = needed and do(partial(_deleted, chosen=listed, values=(needed,), events_only=events_only))
        if not found:
            break
        count += found
    return count


def size(db: sqlite3.Connection) -> int:
    """Bytes of pages in use."""
    return int(db.execute(_USED).fetchone()[0])


def _conditions(events_only: bool, end: int | None) -> list[str]:
    """What holds for every call that goes."""
    return [_HAS_EVENTS] * events_only + ([] if end is None else [_SEEN.format(end)])


def _all(conditions: Sequence[str]) -> str:
    return " AND ".join(conditions) or "TRUE"


def _all_deleted(do: Do, chosen: str, values: Sequence[Any], events_only: bool) -> int:
    count = 0
    batch = partial(_deleted, chosen=chosen, values=(*values, _BATCH), events_only=events_only)
    while found := do(batch):
        count += found
    return count


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
