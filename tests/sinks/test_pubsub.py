"""The hubs of this project keep what `check_pubsub` asks of any, on both event loops; and what each can get wrong alone."""

from __future__ import annotations

import gc
import socket
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from anyio.to_thread import run_sync

from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.pubsub import GAP, Notice, PubSub
from luthien_guard.sinks.pubsub import open_pubsub
from luthien_guard.sinks.pubsub.memory import MemoryPubSub
from luthien_guard.sinks.pubsub.postgresql import PostgresPubSub
from luthien_guard.sinks.pubsub.redis import RedisPubSub
from luthien_guard.sinks.pubsub.sqlite_tail import TailPubSub
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.testing.hubs import check_pubsub
from luthien_guard.testing.sinks import exchange_rows
from tests.sinks.proxy import Proxy, proxied
from tests.sinks.servers import admin, demoted


def some(count: int, start: int = 0) -> list[Notice]:
    return [
        Notice("", f"call-{n}", n, float(n), "closed", "p" if n % 2 else None)
        for n in range(start, start + count)
    ]


async def heard(notices: AsyncIterator[Notice], count: int) -> list[Notice]:
    with anyio.fail_after(30):
        return [await anext(notices) for _ in range(count)]


def plain(notices: Sequence[Notice]) -> list[Notice]:
    return [replace(each, id="") for each in notices]


@pytest.fixture
def leaky() -> Iterator[None]:
    """coredis leaves the streams of a connection that failed to the garbage collector."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unclosed <MemoryObject", ResourceWarning)
        yield
        gc.collect()


# -- the promises ------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("size", [700, 10_000])
async def test_postgresql_keeps_the_promises(database: str, size: int) -> None:
    await check_pubsub(lambda: PostgresPubSub(database, size=size))


@pytest.mark.parametrize("kept", [700, 100_000])
async def test_redis_keeps_the_promises(redis: str, kept: int) -> None:
    await check_pubsub(lambda: RedisPubSub(redis, key=f"promises-{kept}", kept=kept))


class Forgets(MemoryPubSub):
    def publish(self, notices: Sequence[Notice]) -> None:
        super().publish(notices[:-1] if len(notices) > 50 else notices)


class Reorders(MemoryPubSub):
    def publish(self, notices: Sequence[Notice]) -> None:
        super().publish(notices[::-1])


class Pretends(MemoryPubSub):
    def _since(self, after: str) -> list[Notice]:
        return [each for each in super()._since(after) if each.event_type != GAP]


class SkipsOne(MemoryPubSub):
    def _since(self, after: str) -> list[Notice]:
        found = super()._since(after)
        return found[1:] if len(found) > 1 else found


class RepeatsThePast(MemoryPubSub):
    def subscribe(self, *, after: str | None = None) -> Any:
        return super().subscribe(after=after or "1")


class Anonymous(MemoryPubSub):
    @asynccontextmanager
    async def subscribe(self, *, after: str | None = None) -> AsyncGenerator[AsyncIterator[Notice]]:
        async def nameless() -> AsyncGenerator[Notice]:
            async for each in notices:
                yield replace(each, id="1")

        async with super().subscribe(after=after) as notices, aclosing(nameless()) as iterator:
            yield iterator


class OneEar(MemoryPubSub):
    def publish(self, notices: Sequence[Notice]) -> None:
        everybody = set(self._mailboxes)
        self._mailboxes = set(list(everybody)[:1])
        super().publish(notices)
        self._mailboxes = everybody


class Endless(MemoryPubSub):
    def close(self) -> None:
        pass


class LosesSilently(MemoryPubSub):
    @asynccontextmanager
    async def subscribe(self, *, after: str | None = None) -> AsyncGenerator[AsyncIterator[Notice]]:
        async def gapless() -> AsyncGenerator[Notice]:
            first = True
            async for each in notices:
                if first or each.event_type != GAP:
                    yield each
                first = False

        async with super().subscribe(after=after) as notices, aclosing(gapless()) as iterator:
            yield iterator


@pytest.mark.parametrize(
    "broken",
    [Forgets, Reorders, Pretends, SkipsOne, RepeatsThePast, Anonymous, OneEar, LosesSilently, Endless],
)
async def test_a_broken_hub_is_found_out(broken: Callable[[], PubSub]) -> None:
    with pytest.raises(AssertionError):
        await check_pubsub(broken, patience=0.3)


# -- URLs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryPubSub),
        ("sqlite:///x.db", TailPubSub),
        ("postgresql://host/db", PostgresPubSub),
        ("postgres://u:p@host:1/db?sslmode=require", PostgresPubSub),
        ("redis://host", RedisPubSub),
        ("rediss://u:p@host:1/2", RedisPubSub),
    ],
)
def test_the_scheme_says_which_hub(url: str, kind: type) -> None:
    assert type(open_pubsub(url)) is kind


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("guard", "is no URL"),
        ("redi://x", "did you mean .?redis"),
        ("memory://x", "no path"),
        ("sqlite://", "sqlite:///relative.db"),
        ("postgresql://u:s3cret@host", "is expected"),
        ("redis://:s3cret@host:x", "is expected"),
        ("redis://:s3cret@host/name", "is expected"),
        ("redis://", "is expected"),
    ],
)
def test_a_wrong_url_is_told_precisely(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        open_pubsub(url)
    assert "s3cret" not in str(told.value)


@pytest.mark.usefixtures("leaky")
async def test_a_server_that_is_not_there_is_told(database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url in (f"postgresql://u:s3cret@127.0.0.1:{port}/db", f"redis://u:s3cret@127.0.0.1:{port}"):
        hub = open_pubsub(url)
        with pytest.raises(SinkError, match=f"127.0.0.1:{port}") as told:
            await run_sync(hub.open)
        assert "s3cret" not in str(told.value)
        with pytest.raises(SinkError, match=f"127.0.0.1:{port}"):
            async with hub.subscribe():
                pass
        with pytest.raises(SinkError):
            await run_sync(hub.publish, some(1))
        await run_sync(hub.close)


# -- in memory ---------------------------------------------------------------------------------------------------------


async def test_a_slow_subscriber_finds_a_gap_where_something_is_lost() -> None:
    hub = MemoryPubSub(size=3)
    async with hub.subscribe() as notices:
        hub.publish(some(5))
        found = await heard(notices, 4)
        assert plain(found[:3]) == some(3)
        assert found[3].event_type == GAP
        hub.publish(some(1, 5))
        assert plain(await heard(notices, 1)) == some(1, 5)
    async with hub.subscribe(after=found[3].id) as notices:
        assert plain(await heard(notices, 1)) == some(1, 5), "a gap can be resumed after as any notice"


async def test_threads_publish_while_a_loop_listens() -> None:
    hub = MemoryPubSub(size=100_000)
    async with hub.subscribe() as notices, anyio.create_task_group() as group:
        for worker in range(4):
            group.start_soon(
                run_sync, lambda start=worker * 1000: [hub.publish([each]) for each in some(500, start)]
            )
        found = await heard(notices, 2000)
    assert [int(each.id) for each in found] == list(range(1, 2001))


# -- between processes -------------------------------------------------------------------------------------------------


async def test_one_hears_what_another_says(database: str, redis: str) -> None:
    for url in (database, redis):
        one, two = open_pubsub(url), open_pubsub(url)
        await run_sync(one.open)
        async with two.subscribe() as notices:
            await run_sync(one.publish, some(1200))
            assert plain(await heard(notices, 1200)) == some(1200)
        await run_sync(one.close)
        await run_sync(two.close)


async def test_what_strangers_send_is_a_gap(database: str, redis: str) -> None:
    hub = PostgresPubSub(database)
    async with hub.subscribe() as notices:
        for said in ("", "x", "{}", "[1]", "[[1,2]]", '[["a","b","c",1,"e",null]]', "[[[],[],[],[],[],[]]]"):
            await run_sync(admin, database, f"SELECT pg_notify('luthien_guard', '{said}')")
        await run_sync(admin, database, 'SELECT pg_notify(\'luthien_guard\', \'[["i","c",1,2,"e",null]]\')')
        found = await heard(notices, 7)  # nothing is in {}
        assert [each.event_type for each in found] == [GAP] * 6 + ["e"]
    await run_sync(hub.close)


async def test_long_names_fit(database: str) -> None:
    hub = PostgresPubSub(database)
    await run_sync(hub.open)
    long = [replace(each, policy="é\0🙂" * 3000) for each in some(30)]
    async with hub.subscribe() as notices:
        await run_sync(hub.publish, long)
        found = await heard(notices, 30)
    assert [each.call_id for each in found] == [each.call_id for each in long]
    await run_sync(hub.close)


async def test_a_lost_connection_is_told(database: str) -> None:
    with proxied(database) as proxy:
        hub = PostgresPubSub(proxy.url)
        with pytest.raises(SinkError, match="the connection was lost") as told:
            async with hub.subscribe() as notices:
                await run_sync(proxy.cut)
                await heard(notices, 1)
        assert "s3cret" not in str(told.value)
        async with hub.subscribe(after="x") as notices:
            assert (await heard(notices, 1))[0].event_type == GAP
        await run_sync(hub.close)


@pytest.mark.usefixtures("leaky")
async def test_a_broker_that_comes_back_is_used_again(redis: str) -> None:
    with proxied(redis) as proxy:
        hub = RedisPubSub(redis_url(proxy), key="comes-back")
        await run_sync(hub.open)
        await run_sync(hub.publish, some(1))
        for _ in range(3):
            await run_sync(proxy.cut)
            assert await published_at_last(hub)
        await run_sync(hub.close)


@pytest.mark.usefixtures("leaky")
async def test_a_broker_that_was_made_a_replica_is_left_for_the_one_that_took_over(
    primary: str, redis: str
) -> None:
    """The old connection stands, to a server that takes nothing now."""
    with proxied(primary) as proxy:
        hub = RedisPubSub(redis_url(proxy), key="failover")
        await run_sync(hub.open)
        await run_sync(demoted, primary)
        proxy.lead(redis)
        with pytest.raises(SinkError, match="read only replica"):
            await run_sync(hub.publish, some(1))
        async with hub.subscribe() as notices:
            await run_sync(hub.publish, some(1))
            assert plain(await heard(notices, 1)) == some(1)
        await run_sync(hub.close)


def redis_url(proxy: Proxy) -> str:
    return proxy.url.replace("postgres:s3cret@", "")


async def published_at_last(hub: PubSub) -> bool:
    for _ in range(5):
        try:
            await run_sync(hub.publish, some(1))
            return True
        except SinkError:
            pass
    return False


@pytest.mark.usefixtures("leaky")
async def test_a_wrong_password_is_told_without_it(redis: str) -> None:
    hub = RedisPubSub(redis.replace("redis://", "redis://somebody:s3cret@"))
    with pytest.raises(SinkError, match=r"redis://127\.0\.0\.1") as told:
        await run_sync(hub.open)
    assert "s3cret" not in str(told.value)


async def test_an_id_that_redis_has_trimmed_is_a_gap(redis: str) -> None:
    hub = RedisPubSub(redis, key="trimmed", kept=100)
    await run_sync(hub.open)
    async with hub.subscribe() as notices:
        await run_sync(hub.publish, some(1))
        (first,) = await heard(notices, 1)
        await run_sync(hub.publish, some(1000, 1))
        found = await heard(notices, 1)
        assert found[0].event_type == GAP, "also for one who fell behind while subscribed"
    async with hub.subscribe(after=first.id) as notices:
        assert (await heard(notices, 1))[0].event_type == GAP
    await run_sync(hub.close)


async def test_who_came_to_an_empty_stream_and_fell_behind_hears_of_a_gap(redis: str) -> None:
    hub = RedisPubSub(redis, key=f"was-empty-{uuid4().hex}", kept=100)
    await run_sync(hub.open)
    async with hub.subscribe() as notices:
        await run_sync(hub.publish, some(1000))
        found = await heard(notices, 1)
        assert found[0].event_type == GAP
    await run_sync(hub.close)


async def test_subscribers_who_leave_take_their_connections_along(redis: str, database: str) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    hub: PubSub = PostgresPubSub(database)
    await leave_often(hub)
    await run_sync(hub.close)
    with anyio.fail_after(30):
        while (await run_sync(admin, database, count)) != [(1,)]:
            pass
    hub = RedisPubSub(redis, key="leaving")
    await leave_often(hub)
    async with hub.subscribe() as notices:
        await run_sync(hub.publish, some(100))
        assert plain(await heard(notices, 100)) == some(100)
    await run_sync(hub.close)


async def leave_often(hub: PubSub) -> None:
    for _ in range(40):
        with anyio.move_on_after(0.001):
            async with hub.subscribe() as notices:
                await anext(notices)


# -- the tail of a file ------------------------------------------------------------------------------------------------


async def test_a_row_that_was_pruned_is_a_gap(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    store.open()
    hub = TailPubSub(lambda: SqliteStore(tmp_path / "s.db"), pause=0.01)
    async with hub.subscribe() as notices:
        store.write(exchange_rows(1))
        found = await heard(notices, 3)
    store.write(exchange_rows(2))
    async with hub.subscribe(after=found[1].id) as notices:
        assert [each.seq for each in await heard(notices, 4)] == [2, 0, 1, 2]
    store.prune(before=1500.0)
    async with hub.subscribe(after=found[1].id) as notices:
        (lost,) = await heard(notices, 1)
        assert lost.event_type == GAP
    async with hub.subscribe(after=lost.id) as notices:
        store.write(exchange_rows(3))
        assert [each.call_id for each in await heard(notices, 1)] == [exchange_rows(3)[0].call_id]
    store.close()


async def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(SinkError, match=r"s\.db"):
        async with open_pubsub(f"sqlite:///{tmp_path}/s.db").subscribe():
            pass
