"""The store on PostgreSQL."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.sinks import positions
from luthien_guard.sinks.migrations import pending
from luthien_guard.sinks.postgresql import partitions, pruning, statements
from luthien_guard.sinks.postgresql.connection import COMMAND, Connection, where
from luthien_guard.sinks.postgresql.driver import Database
from luthien_guard.store import Call, CallFilter, Row, Written, begun, plain, projected

__all__ = ["PostgresStore"]

logger = logging.getLogger("luthien_guard")

_LATER: Final = 60.0  # seconds
_PACKAGE: Final = "luthien_guard.sinks.postgresql"
_VERSION: Final = "SELECT coalesce(max(version), 0) FROM schema_migrations"


class PostgresStore:
    """Implements `Store`. A connection that broke is made anew by the next call. `patience` is how many seconds a command
    may take."""

    remote = True

    def __init__(self, url: str, *, patience: float = COMMAND) -> None:
        self._where = where(url)
        self._db = Connection(url, self._prepared, patience)
        self._days: set[int] = set()  # whose partitions are there
        self._again = 0.0  # when to try to make partitions again
        self._receives = False  # the connection has the table that COPY fills: a replica could not make it

    def open(self) -> None:
        self._db.open()

    def close(self) -> None:
        self._db.close()

    # -- rows in -------------------------------------------------------------------------------------------------------

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        values = [
            (
                n,
                row.call_id,
                row.seq,
                row.at,
                row.event_type,
                row.policy,
                row.payload,
                row.prev_hash,
                row.hash,
            )
            for n, row in enumerate(rows)
        ]
        days = partitions.wanted({row.call_id for row in rows})

        async def append(db: Database) -> Written:
            await self._received(db)
            await self._partitioned(db, days)
            async with db.transaction():
                if durable:  # whatever is the habit of this database
                    await db.execute("SET LOCAL synchronous_commit = on")
                await db.copy_records_to_table(
                    "luthien_incoming", records=values, columns=statements.INCOMING_COLUMNS
                )
                await db.execute(partitions.LOCK)  # taken as late as can be: others wait for it
                kept, told = await _without_pruned(db, rows)
                stored = int((await db.execute(statements.INSERT_EVENTS)).rpartition(" ")[2])
                conflicts = await _conflicts(db, rows) if stored < len(kept) else ()
                await _project(db, [*told, *kept], conflicts)
            known = len(kept) - stored - len(conflicts)
            return Written(stored, known, conflicts, pruned=len(rows) - len(kept))

        return self._db.run(append) if rows else Written()

    async def _received(self, db: Database) -> None:
        if not self._receives:
            await db.execute(statements.INCOMING)
            self._receives = True

    async def _partitioned(self, db: Database, days: set[int]) -> None:
        """Make the days that are missing, if that can be done now: until then their rows have a place beside them."""
        import asyncpg  # type: ignore[import-untyped, unused-ignore]

        if days <= self._days or time.monotonic() < self._again:
            return
        try:
            async with db.transaction():
                await partitions.created(db, days)
            self._days |= days
        except (asyncpg.LockNotAvailableError, asyncpg.InsufficientPrivilegeError) as error:
            self._again = time.monotonic() + _LATER
            logger.warning("%s: no partitions could be made: %s", self._where, error)

    # -- calls and rows out --------------------------------------------------------------------------------------------

    def call(self, call_id: str) -> Call | None:
        found = self._fetch(f"{statements.SELECT_CALLS} WHERE call_id = $1", plain(call_id))
        return statements.call_of(found[0]) if found else None

    def calls(self, wanted: CallFilter) -> list[Call]:
        conditions, values = statements.conditions(wanted)
        limit = f"ORDER BY c.call_id DESC LIMIT ${len(values) + 1}"
        found = self._fetch(f"{statements.SELECT_CALLS} {conditions} {limit}", *values, wanted.limit)
        return [statements.call_of(each) for each in found]

    def rows(self, call_id: str, *, after: int = -1) -> list[Row]:
        query = f"{statements.SELECT_EVENTS} WHERE call_id = $1 AND seq > $2 ORDER BY seq"
        return [Row(*each) for each in self._fetch(query, plain(call_id), after)]

    def tail(self, position: int | None = None, *, limit: int = 500) -> tuple[int, list[Row]]:
        if position is None:
            last = self._fetch("SELECT coalesce(max(position), 0) FROM conversation_events")[0][0]
            return positions.after_row(last), []
        found = self._fetch(statements.TAIL, positions.next_row(position), limit)
        if found:
            position = positions.after_row(found[-1][0])
        return position, [Row(*tuple(each)[1:]) for each in found]

    def unfinished(self, writer: str | None = None) -> list[str]:
        query = "SELECT call_id FROM conversation_calls WHERE ended_at IS NULL AND ($1::text IS NULL OR writer = $1)"
        return [each[0] for each in self._fetch(f"{query} ORDER BY call_id", writer)]

    def pruned(self) -> str | None:
        last: str | None = self._fetch(statements.LAST_PRUNED)[0][0]
        return last

    def stats(self) -> Mapping[str, Any]:
        """`events` and `calls` are counted: on many millions that takes its time."""
        return {**self._fetch(statements.STATS)[0], "bytes": self._db.run(pruning.size)}

    def _fetch(self, query: str, *values: Any) -> list[Any]:
        async def fetched(db: Database) -> list[Any]:
            return list(await db.fetch(query, *values))

        return self._db.run(fetched)

    # -- retention -----------------------------------------------------------------------------------------------------

    def prune(
        self,
        *,
        before: float | None = None,
        max_bytes: int | None = None,
        events_only: bool = False,
        seen: int | None = None,
    ) -> int:
        """Whole days at once where it can. Where one day alone is past `max_bytes`, its table is written anew, and
        writers wait meanwhile."""
        count = 0
        taken = pruning.Taken(events_only, None if seen is None else positions.next_row(seen))
        if before is not None:
            count += pruning.by_age(self._db, before, taken)
        if max_bytes is not None:
            count += pruning.by_size(self._db, max_bytes, taken)
        self._days.clear()  # dropped ones are made again when they are needed
        return count

    # -- the schema ----------------------------------------------------------------------------------------------------

    async def _prepared(self, db: Database) -> None:
        self._days.clear()
        self._receives = False
        await self._migrated(db)

    async def _migrated(self, db: Database) -> None:
        if not pending(_PACKAGE, await _version(db), self._where):
            return  # a reader may have no right to make tables
        async with db.transaction():
            await db.execute(partitions.LOCK)
            await db.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, applied_at DOUBLE PRECISION)"
            )
            for number, sql in pending(_PACKAGE, await db.fetchval(_VERSION), self._where):
                await db.execute(sql)
                await db.execute("INSERT INTO schema_migrations VALUES ($1, $2)", number, time.time())


async def _version(db: Database) -> int:
    if await db.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return 0
    return int(await db.fetchval(_VERSION))


async def _without_pruned(db: Database, rows: Sequence[Row]) -> tuple[Sequence[Row], list[Row]]:
    """(the rows without those of calls that retention took, those of them whose call still has its line)"""
    last = await db.fetchval(statements.LAST_PRUNED)
    late = {row.call_id for row in rows if last is not None and row.call_id <= last} - begun(rows)
    gone = await db.fetch(statements.DROP_PRUNED, list(late)) if late else ()
    if not gone:
        return rows, []
    calls = {each[1] for each in gone}
    lines = {each[0] for each in await db.fetch(statements.HAVE_LINES, list(calls))}
    return [row for row in rows if row.call_id not in calls], [row for row in rows if row.call_id in lines]


async def _conflicts(db: Database, rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(rows[each[0]] for each in await db.fetch(statements.CONFLICTS))


async def _project(db: Database, rows: Sequence[Row], conflicts: tuple[Row, ...]) -> None:
    refused = set(conflicts)
    calls = projected(row for row in rows if row not in refused)
    if calls:
        await db.execute(statements.UPSERT_CALLS, *statements.upserts(calls))
