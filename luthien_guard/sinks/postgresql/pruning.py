"""What goes, and how much room there was: whole partitions where it can, else calls, a few hundred a transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from luthien_guard.sinks.postgresql import partitions, statements
from luthien_guard.sinks.postgresql.connection import Connection
from luthien_guard.sinks.postgresql.driver import Database
from luthien_guard.sinks.postgresql.partitions import Partition
from luthien_guard.store import id_at

__all__ = ["by_age", "by_size", "size"]

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
_HAS_EVENTS: Final = "EXISTS (SELECT 1 FROM conversation_events e WHERE e.call_id = c.call_id)"


async def size(db: Database) -> int:
    """Bytes on disk, with indexes and room that is free for use."""
    return int(await db.fetchval(_SIZE))


def by_age(db: Connection, before: float, events_only: bool) -> int:
    """Delete what started before `before`. Returns the number of calls touched."""
    count = 0
    for partition in db.run(partitions.found):
        if partition.low is not None:
            count += db.run(_dropped(partition, events_only, before))
    last: list[str] = [""]
    while batch := db.run(_oldest(last[-1], events_only, before=before)):
        count += db.run(_deleted(batch, events_only))
        last = batch
    return count


def by_size(db: Connection, most: int, events_only: bool) -> int:
    """Delete the oldest until all is within `most` bytes. The newest call always stays."""
    count = 0
    days = [each for each in db.run(partitions.found) if each.low is not None]
    filled = [each for each in days if db.run(_filled(each))]
    for partition in filled[:-1]:
        if db.run(size) <= most:
            return count
        count += db.run(_dropped(partition, events_only))
    touched = [each.name for each in filled[-1:]] + ["conversation_events_other", "conversation_calls"]
    while (now := db.run(size)) > most and (batch := db.run(_excess(1 - most / now, events_only))):
        for start in range(0, len(batch), _BATCH):
            count += db.run(_deleted(batch[start : start + _BATCH], events_only))
        for table in touched:
            db.run(_rewritten(table), seconds=_PATIENCE)
    return count


def _filled(partition: Partition) -> Callable[[Database], Any]:
    async def work(db: Database) -> bool:
        return bool(await db.fetchval(f"SELECT EXISTS (SELECT 1 FROM {partition.name})"))

    return work


def _dropped(
    partition: Partition, events_only: bool, before: float | None = None
) -> Callable[[Database], Any]:
    """Drop the partition, unless one of its calls is younger. Returns the number of its calls."""

    async def work(db: Database) -> int:
        bounds = (partition.low, partition.high)
        async with db.transaction():
            await db.execute(partitions.LOCK)
            calls, younger = await db.fetchrow(
                _CALLS, *bounds, before, None if before is None else id_at(before)
            )
            if younger or not await db.fetchval(f"SELECT EXISTS (SELECT 1 FROM {partition.name})"):
                return 0
            youngest = await db.fetchval(f"SELECT max(call_id) FROM {partition.name}")
            await db.execute(f"DROP TABLE {partition.name}")
            await db.execute(statements.PRUNED, youngest)
            if not events_only:
                await db.execute(f"DELETE FROM conversation_calls WHERE {_BETWEEN}", *bounds)
        return int(calls)

    return work


def _oldest(after: str, events_only: bool, *, before: float) -> Callable[[Database], Any]:
    """The next calls that started before then."""
    having = f"AND {_HAS_EVENTS}" if events_only else ""
    old = "(c.started_at < $1 OR c.started_at IS NULL AND c.call_id < $2)"
    query = f"SELECT c.call_id FROM conversation_calls c WHERE {old} AND c.call_id > $3 {having} ORDER BY c.call_id LIMIT {_BATCH}"

    async def work(db: Database) -> list[str]:
        return [each[0] for each in await db.fetch(query, before, id_at(before), after)]

    return work


def _excess(part: float, events_only: bool) -> Callable[[Database], Any]:
    """That part of the calls, the oldest, and at least one; never the newest."""
    having = f"WHERE {_HAS_EVENTS}" if events_only else ""

    async def work(db: Database) -> list[str]:
        count = int(await db.fetchval(f"SELECT count(*) FROM conversation_calls c {having}"))
        query = f"SELECT c.call_id FROM conversation_calls c {having} ORDER BY c.call_id LIMIT $1"
        return [each[0] for each in await db.fetch(query, min(max(int(count * part), 1), count - 1))]

    return work


def _deleted(batch: list[str], events_only: bool) -> Callable[[Database], Any]:
    async def work(db: Database) -> int:
        async with db.transaction():
            await db.execute(partitions.LOCK)
            await db.execute("DELETE FROM conversation_events WHERE call_id = ANY($1::text[])", batch)
            if not events_only:
                await db.execute("DELETE FROM conversation_calls WHERE call_id = ANY($1::text[])", batch)
            await db.execute(statements.PRUNED, max(batch))
        return len(batch)

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
