"""Microseconds a row, through to the commit, on a real PostgreSQL: the store against asyncpg doing the same by hand."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.table import interleaved, report
from luthien_guard.exchange import new_call_id
from luthien_guard.records import EventType
from luthien_guard.sinks.loop_thread import LoopThread
from luthien_guard.sinks.postgresql import PostgresStore
from luthien_guard.sinks.postgresql.connection import connected
from luthien_guard.sinks.postgresql.statements import INCOMING, INCOMING_COLUMNS, INSERT_EVENTS
from luthien_guard.store import EVENT_COLUMNS, Row, chained, payload_of
from tests.sinks.servers import postgresql_server

ROWS = 20_000
AN_EXCHANGE = 8  # rows
TEXT = "The quick brown fox jumps over the lazy dog. " * 8

_PLAIN = (
    'CREATE TABLE IF NOT EXISTS bare (position BIGSERIAL, call_id TEXT COLLATE "C", seq INTEGER, at DOUBLE PRECISION, '
    "event_type TEXT, policy TEXT, payload TEXT, prev_hash TEXT, hash TEXT, PRIMARY KEY (call_id, seq));"
    "CREATE INDEX IF NOT EXISTS bare_order ON bare (position);"
    "CREATE INDEX IF NOT EXISTS bare_policy ON bare (policy, call_id) WHERE policy IS NOT NULL;"
)


def exchanges(count: int) -> list[Row]:
    """New rows, as exchanges make them."""
    rows: list[Row] = []
    for _ in range(count // AN_EXCHANGE):
        call_id, before = new_call_id(), ""
        for seq in range(AN_EXCHANGE):
            kind = EventType.REQUEST_RECEIVED if seq == 0 else EventType.POLICY_RECORD
            if seq == AN_EXCHANGE - 1:
                kind = EventType.CLOSED
            details = {"model": "m", "endpoint": "/v1/chat/completions", "outcome": "success", "text": TEXT}
            row = chained(
                call_id, seq, time.time(), kind.value, "p" if seq % 2 else None, payload_of(details), before
            )
            rows.append(row)
            before = row.hash
    return rows


def timed(work: Callable[[list[Row]], object], batch: int) -> Callable[[], float]:
    def run() -> float:
        rows = exchanges(ROWS)
        began = time.perf_counter()
        for start in range(0, len(rows), batch):
            work(rows[start : start + batch])
        return (time.perf_counter() - began) / len(rows) * 1e6

    return run


class Bare:
    """asyncpg on the same kind of thread."""

    def __init__(self, url: str) -> None:
        self._thread = LoopThread("bare")
        self._thread.start()
        self._db: Any = self._thread.call(lambda: connected(url))
        self._call(self._db.execute, _PLAIN)
        self._call(self._db.execute, INCOMING)

    def close(self) -> None:
        self._call(self._db.close)
        self._thread.stop()

    def _call(self, work: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return self._thread.call(lambda: work(*args))

    def copy(self, rows: list[Row]) -> None:
        """COPY alone: an error where a row comes twice."""
        records = [tuple(getattr(row, name) for name in EVENT_COLUMNS) for row in rows]

        async def work() -> None:
            await self._db.copy_records_to_table("bare", records=records, columns=EVENT_COLUMNS)

        self._thread.call(work)

    def same(self, rows: list[Row]) -> None:
        """What the store does to the rows: rows may come twice."""
        records = [(n, *(getattr(row, name) for name in EVENT_COLUMNS)) for n, row in enumerate(rows)]

        async def work() -> None:
            async with self._db.transaction():
                await self._db.copy_records_to_table(
                    "luthien_incoming", records=records, columns=INCOMING_COLUMNS
                )
                await self._db.execute(INSERT_EVENTS.replace("conversation_events", "bare"))

        self._thread.call(work)

    def inserts(self, rows: list[Row]) -> None:
        records = [tuple(getattr(row, name) for name in EVENT_COLUMNS) for row in rows]
        marks = ", ".join(f"${n}" for n in range(1, len(EVENT_COLUMNS) + 1))
        query = f"INSERT INTO bare ({', '.join(EVENT_COLUMNS)}) VALUES ({marks}) ON CONFLICT DO NOTHING"

        async def work() -> None:
            async with self._db.transaction():
                await self._db.executemany(query, records)

        self._thread.call(work)


def main() -> None:
    with postgresql_server() as url:
        store, bare = PostgresStore(url), Bare(url)
        store.open()
        for batch in (500, 5000):
            variants = {
                "asyncpg: COPY and INSERT by hand": timed(bare.same, batch),
                "asyncpg: COPY into the table": timed(bare.copy, batch),
                "asyncpg: executemany": timed(bare.inserts, batch),
                "PostgresStore.write": timed(store.write, batch),
                "PostgresStore.write, durable": timed(lambda rows: store.write(rows, durable=True), batch),
            }
            found = interleaved(variants, rounds=5)
            rates = [
                f"{1e6 / statistics.median(values):,.0f}" for values in itertools.islice(found.values(), 3, 5)
            ]
            note = f"PostgresStore: {rates[0]} rows/s, durable {rates[1]}; the goal is 20,000"
            base = "asyncpg: COPY and INSERT by hand"
            report(f"PostgreSQL, {batch} rows a batch", "us/row", found, baseline=base, note=note)
        store.close()
        bare.close()


if __name__ == "__main__":
    main()
