"""What goes, and how much room there was: whole partitions where it can, else calls, a few hundred a transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from luthien_guard.sinks.postgresql import partitions, statements
from luthien_guard.sinks.postgresql.connection import Connection
from luthien_guard.sinks.postgresql.driver import Database
from luthien_guard.sinks.postgresql.partitions import Partition
from luthien_guard.store import id_at

__all__ = ["Taken", "by_age", "by_size", "size"]

_BATCH: Final = 500  # calls a transaction: nobody else waits long
_PATIENCE: Final = 3600.0  # seconds for writing one table anew
_SIZE: Final = (
    "SELECT (pg_total_relation_size('conversation_calls') + (SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0) "
    "FROM pg_inherits WHERE inhparent = 'conversation_events'::regclass))::bigint"
)
_BETWEEN: Final = "call_id >= $1 AND call_id < $2"
_CALLS: Final = (
    "SELECT count(*), count(*) FILTER (WHERE $3::float8 IS NOT NULL "
    "AND (started_at >= $3 OR started_at IS NULL AND call_id >= $4)) "
    f"FROM conversation_calls WHERE {_BETWEEN}"
)
_OLD: Final = "(c.started_at < $1 OR c.started_at IS NULL AND c.call_id < $2)"
#: The ids of calls that are listed, the oldest first.
_LISTED: Final = "SELECT c.call_id FROM conversation_calls c WHERE {} ORDER BY c.call_id LIMIT {}"
#: Those of which there are rows and no line: somebody took it.
_NO_LINE: Final = "NOT EXISTS (SELECT 1 FROM conversation_calls l WHERE l.call_id = c.call_id)"
_UNLISTED: Final = f"SELECT DISTINCT c.call_id FROM conversation_events c WHERE {_NO_LINE} AND {{}} ORDER BY c.call_id LIMIT {{}}"
_BEFORE_ALL_LISTED: Final = (
    "c.call_id < coalesce((SELECT min(c.call_id) FROM conversation_calls c WHERE {}), "
    "(SELECT max(call_id) FROM conversation_events))"
)
_NOT_LAST: Final = "c.call_id < (SELECT max(call_id) FROM conversation_calls)"


@dataclass(frozen=True, slots=True)
class Taken:
    """What goes of a call, and that calls stay that have rows with the number `end` or a greater one."""

    events_only: bool
    end: int | None

    def where(self, *more: str) -> str:
        """The condition for a call `c` to go."""
        conditions = [*more]
        if self.events_only:
            conditions.append("EXISTS (SELECT 1 FROM conversation_events e WHERE e.call_id = c.call_id)")
        if self.end is not None:
            conditions.append(
                "NOT EXISTS (SELECT 1 FROM conversation_events e "
                f"WHERE e.call_id = c.call_id AND e.position >= {self.end})"
            )
        return " AND ".join(conditions) or "true"

    def whole(self, table: str) -> str:
        """SQL that says whether there are rows in the partition, and none that has to stay: one that came late, or one
        without a line whose id is not below $1."""
        late = "false" if self.end is None else f"EXISTS (SELECT 1 FROM {table} WHERE position >= {self.end})"
        unlisted = f"EXISTS (SELECT 1 FROM {table} c WHERE c.call_id >= $1::text AND {_NO_LINE})"
        return f"SELECT EXISTS (SELECT 1 FROM {table}) AND NOT {late} AND NOT {unlisted}"


async def size(db: Database) -> int:
    """Bytes on disk, with indexes and room that is free for use."""
    return int(await db.fetchval(_SIZE))


def by_age(db: Connection, before: float, taken: Taken) -> int:
    """Delete what started before `before`. Returns the number of calls touched."""
    count = 0
    for partition in db.run(partitions.found):
        if partition.low is not None:
            count += db.run(_dropped(partition, taken, before))
    listed = _LISTED.format(taken.where(_OLD, "c.call_id > $3"), _BATCH)
    count += _all_deleted(db, taken, lambda last: db.run(_ids(listed, before, id_at(before), last)))
    # after the others: what is still there with such an id is little
    unlisted = _UNLISTED.format(taken.where("c.call_id < $1", "c.call_id > $2"), _BATCH)
    return count + _all_deleted(db, taken, lambda last: db.run(_ids(unlisted, id_at(before), last)))


def by_size(db: Connection, most: int, taken: Taken) -> int:
    """Delete the oldest until all is within `most` bytes. The newest call always stays."""
    count = 0
    for partition in _filled(db)[:-1]:
        if db.run(size) <= most:
            return count
        count += db.run(_dropped(partition, taken))
    touched = [*(each.name for each in _filled(db)), "conversation_events_other", "conversation_calls"]
    while (now := db.run(size)) > most and (batch := db.run(_excess(1 - most / now, taken))):
        for start in range(0, len(batch), _BATCH):
            count += db.run(_deleted(batch[start : start + _BATCH], taken))
        for table in touched:
            db.run(_rewritten(table), seconds=_PATIENCE)
    return count


def _all_deleted(db: Connection, taken: Taken, after: Callable[[str], list[str]]) -> int:
    """`after` gives the next batch of ids behind one."""
    count, last = 0, ""
    while batch := after(last):
        count += db.run(_deleted(batch, taken))
        last = batch[-1]
    return count


def _filled(db: Connection) -> list[Partition]:
    """The days of which there are rows."""

    async def work(db: Database) -> list[Partition]:
        days = [each for each in await partitions.found(db) if each.low is not None]
        return [each for each in days if await db.fetchval(f"SELECT EXISTS (SELECT 1 FROM {each.name})")]

    return db.run(work)


def _dropped(partition: Partition, taken: Taken, before: float | None = None) -> Callable[[Database], Any]:
    """Drop the partition, unless something in it has to stay. Returns the number of its calls."""

    async def work(db: Database) -> int:
        bounds = (partition.low, partition.high)
        bound = None if before is None else id_at(before)
        async with db.transaction():
            await db.execute(partitions.LOCK)
            calls, younger = await db.fetchrow(_CALLS, *bounds, before, bound)
            if younger or not await db.fetchval(taken.whole(partition.name), bound):
                return 0
            youngest = await db.fetchval(f"SELECT max(call_id) FROM {partition.name}")
            await db.execute(f"DROP TABLE {partition.name}")
            await db.execute(statements.PRUNED, youngest)
            if not taken.events_only:
                await db.execute(f"DELETE FROM conversation_calls WHERE {_BETWEEN}", *bounds)
        return int(calls)

    return work


def _ids(query: str, *values: Any) -> Callable[[Database], Any]:
    async def work(db: Database) -> list[str]:
        return [each[0] for each in await db.fetch(query, *values)]

    return work


def _excess(part: float, taken: Taken) -> Callable[[Database], Any]:
    """That part of the calls, the oldest, and at least one; never the newest."""
    unlisted = _UNLISTED.format(taken.where(_BEFORE_ALL_LISTED.format(taken.where())), _BATCH)
    condition = taken.where(_NOT_LAST)

    async def work(db: Database) -> list[str]:
        if found := await _ids(unlisted)(db):
            return list(found)
        count = int(await db.fetchval(f"SELECT count(*) FROM conversation_calls c WHERE {condition}"))
        query = _LISTED.format(condition, "$1")
        return list(await _ids(query, max(int(count * part), 1))(db))

    return work


def _deleted(batch: list[str], taken: Taken) -> Callable[[Database], Any]:
    """Unless more of a call has come meanwhile."""
    still = f"SELECT c.call_id FROM unnest($1::text[]) c (call_id) WHERE {Taken(False, taken.end).where()}"

    async def work(db: Database) -> int:
        async with db.transaction():
            await db.execute(partitions.LOCK)
            gone = batch if taken.end is None else await _ids(still, batch)(db)
            if not gone:
                return 0
            await db.execute("DELETE FROM conversation_events WHERE call_id = ANY($1::text[])", gone)
            if not taken.events_only:
                await db.execute("DELETE FROM conversation_calls WHERE call_id = ANY($1::text[])", gone)
            await db.execute(statements.PRUNED, max(gone))
        return len(gone)

    return work


def _rewritten(table: str) -> Callable[[Database], Any]:
    """Give the room of what was deleted back to the disk."""

    async def work(db: Database) -> None:
        await db.execute("SET statement_timeout = 0", timeout=_PATIENCE)
        try:
            await db.execute(f"VACUUM (FULL) {table}", timeout=_PATIENCE)
        finally:
            await db.execute("RESET statement_timeout")

    return work
