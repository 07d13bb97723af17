"""The hubs of this project keep what `check_pubsub` asks of any, on both event loops; and what each can get wrong alone."""

from __future__ import annotations

from pathlib import Path

from luthien_guard.sinks.pubsub.memory import MemoryPubSub
from luthien_guard.sinks.pubsub.postgresql import PostgresPubSub
from luthien_guard.sinks.pubsub.redis import RedisPubSub
from luthien_guard.sinks.pubsub.sqlite_tail import TailPubSub
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.testing.hubs import check_pubsub
from tests.sinks.servers import database, postgres, redis

__all__ = ["database", "postgres", "redis"]


async def test_the_hub_in_memory_keeps_the_promises() -> None:
    await check_pubsub(MemoryPubSub)


async def test_the_tail_of_a_file_keeps_the_promises(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    store.open()
    try:
        await check_pubsub(
            lambda: TailPubSub(lambda: SqliteStore(tmp_path / "s.db"), pause=0.01), write=store.write
        )
    finally:
        store.close()


async def test_postgresql_keeps_the_promises(database: str) -> None:
    await check_pubsub(lambda: PostgresPubSub(database, size=1000))


async def test_redis_keeps_the_promises(redis: str) -> None:
    await check_pubsub(lambda: RedisPubSub(redis, key="promises", kept=1000))
