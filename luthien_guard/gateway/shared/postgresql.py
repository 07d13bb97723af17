"""`postgresql://...`: many machines, one statement a question. Driver: asyncpg (the extra `postgresql`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, TypeVar

import anyio

from luthien_guard.gateway.key import Key, KeyReader, key_of, row_of
from luthien_guard.gateway.shared.pace import MICRO, Pace
from luthien_guard.sinks.loop_thread import LoopThread
from luthien_guard.sinks.postgresql.connection import checked, connected, is_broken, told, where
from luthien_guard.sinks.postgresql.driver import Database

__all__ = ["PostgresShared", "from_url"]

T = TypeVar("T")

_PATIENCE: Final = 2.0  # seconds for one question, that of connecting included
_LOCK: Final = 0x6C755F6B  # of those who make the tables at the same time
# What is full again, and who runs what, is no loss after a crash.
_TABLES: Final = """
CREATE UNLOGGED TABLE IF NOT EXISTS gateway_buckets (id TEXT PRIMARY KEY, full_at BIGINT NOT NULL);
CREATE UNLOGGED TABLE IF NOT EXISTS gateway_workers (
    fleet TEXT NOT NULL, worker TEXT NOT NULL, version TEXT NOT NULL, until TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (fleet, worker)
);
CREATE TABLE IF NOT EXISTS gateway_keys (
    id TEXT PRIMARY KEY, mac BYTEA NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL, expires_at DOUBLE PRECISION, revoked_at DOUBLE PRECISION,
    settings TEXT NOT NULL
)"""
_THERE: Final = "SELECT count(to_regclass(name)) = 3 FROM unnest('{gateway_buckets,gateway_workers,gateway_keys}'::text[]) name"
# $2: interval, $3: ahead. `excluded.full_at - $2` is now. What is refused changes nothing and finds no row taken.
_TAKE: Final = """
WITH clock AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now),
taken AS (
    INSERT INTO gateway_buckets AS bucket (id, full_at) SELECT $1::text, now + $2::bigint FROM clock
    ON CONFLICT (id) DO UPDATE SET full_at = greatest(
        least(bucket.full_at, excluded.full_at + $3::bigint) + $2::bigint, excluded.full_at)
    WHERE least(bucket.full_at, excluded.full_at + $3::bigint) <= excluded.full_at - $2::bigint + $3::bigint
    RETURNING 0::bigint AS wait
)
SELECT coalesce(
    (SELECT wait FROM taken),
    (SELECT greatest(least(full_at - now - $3::bigint, $2::bigint), 1) FROM gateway_buckets, clock WHERE id = $1),
    $2::bigint)"""
_ANNOUNCE: Final = """
WITH gone AS (
    DELETE FROM gateway_workers WHERE (fleet, worker) IN (
        SELECT fleet, worker FROM gateway_workers
        WHERE until <= clock_timestamp() AND (fleet, worker) <> ($1::text, $2::text) FOR UPDATE SKIP LOCKED)
),
said AS (
    INSERT INTO gateway_workers (fleet, worker, version, until)
    VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
    ON CONFLICT (fleet, worker) DO UPDATE SET version = excluded.version, until = excluded.until
)
SELECT worker, version FROM gateway_workers WHERE fleet = $1 AND worker <> $2 AND until > clock_timestamp()"""
_COLUMNS: Final = "id, mac, name, scopes, created_at, expires_at, revoked_at, settings"


def from_url(url: str) -> PostgresShared:
    """Raises ConfigError."""
    import asyncpg  # type: ignore[import-untyped, unused-ignore]  # noqa: F401 - told now when it is missing

    return PostgresShared(checked(url))


class PostgresShared:
    """Implements `Shared` and `KeyTable`, over one connection."""

    def __init__(self, url: str) -> None:
        self.place = where(url)
        self.at_once = 1
        self._reader = KeyReader(self.place)
        self._url = url
        self._thread = LoopThread("luthien-guard-shared", wakes=True)
        self._one: anyio.Lock | None = None  # of the thread's own loop
        self._db: Database | None = None

    async def take(self, bucket: str, pace: Pace) -> float:
        wait = await self._asked(lambda db: db.fetchval(_TAKE, bucket, pace.interval, pace.ahead))
        return int(wait) / MICRO

    async def announce(self, fleet: str, worker: str, version: str, seconds: float) -> Mapping[str, str]:
        others = await self._asked(lambda db: db.fetch(_ANNOUNCE, fleet, worker, version, seconds))
        own = {worker: version} if seconds > 0 else {}
        return {**{each["worker"]: each["version"] for each in others}, **own}

    async def find(self, ids: Collection[str]) -> list[Key]:
        query = f"SELECT {_COLUMNS} FROM gateway_keys WHERE id = ANY($1::text[])"  # noqa: S608
        return self._reader.keys(await self._asked(lambda db: db.fetch(query, list(ids))), key_of)

    def add(self, key: Key) -> None:
        query = f"INSERT INTO gateway_keys ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608
        self._waited(lambda db: db.execute(query, *row_of(key)))

    def revoke(self, id: str, at: float) -> bool:
        query = "UPDATE gateway_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING id"
        return self._waited(lambda db: db.fetchval(query, id, at)) is not None

    def all(self) -> list[Key]:
        query = f"SELECT {_COLUMNS} FROM gateway_keys ORDER BY created_at, id"  # noqa: S608
        return self._reader.keys(self._waited(lambda db: db.fetch(query)), key_of)

    def close(self) -> None:
        if self._thread.running:
            self._thread.call(self._dropped)
            self._thread.stop()
            self._one = None

    # ------------------------------------------------------------------------------------------------------------------

    async def _asked(self, work: Callable[[Database], Awaitable[T]]) -> T:
        with told(self._url):
            return await self._thread.awaited(lambda: self._bounded(work))

    def _waited(self, work: Callable[[Database], Awaitable[T]]) -> T:
        with told(self._url):
            return self._thread.call(lambda: self._bounded(work))

    async def _bounded(self, work: Callable[[Database], Awaitable[T]]) -> T:
        try:
            self._one = self._one or anyio.Lock()
            with anyio.fail_after(_PATIENCE):
                async with self._one:
                    return await work(await self._live())
        except BaseException as error:
            if is_broken(error):
                await self._dropped()
            raise

    async def _live(self) -> Database:
        if self._db is None or self._db.is_closed():
            db = await connected(self._url, _PATIENCE)
            try:
                if not await db.fetchval(_THERE):
                    async with db.transaction():
                        await db.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
                        await db.execute(_TABLES)
            except BaseException:
                db.terminate()
                raise
            self._db = db
        return self._db

    async def _dropped(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.terminate()
