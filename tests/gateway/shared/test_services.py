"""One bucket for all workers, on every service: what it holds is taken once, whoever asks at the same time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.to_thread import run_sync

from luthien_guard.errors import SinkError
from luthien_guard.gateway.key import Key
from luthien_guard.gateway.shared.buckets import Buckets
from luthien_guard.gateway.shared.memory import MemoryShared
from luthien_guard.gateway.shared.pace import Pace, pace_of, taken
from luthien_guard.gateway.shared.postgresql import PostgresShared
from luthien_guard.gateway.shared.reach import Reach
from luthien_guard.gateway.shared.redis import RedisShared
from luthien_guard.gateway.shared.service import KeyTable, Shared
from luthien_guard.gateway.shared.sqlite import SqliteShared
from tests.gateway.shared.conftest import Open, redis_url
from tests.sinks.proxy import proxied
from tests.sinks.servers import admin, demoted

DAY = 86400.0
ROOT = Path(__file__).parents[3]


async def allowed(shared: Shared, bucket: str, pace: Pace, times: int) -> int:
    return [await shared.take(bucket, pace) for _ in range(times)].count(0.0)


async def test_two_workers_take_from_one_bucket(worker: Open, name: str) -> None:
    found: list[int] = []

    async def take(shared: Shared) -> None:
        found.append(await allowed(shared, name, pace_of(25, DAY), 20))

    async with anyio.create_task_group() as tasks:
        for shared in (worker(), worker()):
            tasks.start_soon(take, shared)
            tasks.start_soon(take, shared)
    assert sum(found) == 25


def test_two_processes_take_from_one_bucket(url: str, name: str) -> None:
    command = [sys.executable, "-m", "tests.gateway.shared.taking", url, name, "60", "50"]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    assert sum(int(each.communicate(timeout=60)[0]) for each in processes) == 60


async def test_who_is_refused_hears_how_long(worker: Open, name: str) -> None:
    shared, pace = worker(), pace_of(3, DAY)
    assert await allowed(shared, name, pace, 3) == 3
    wait = await shared.take(name, pace)
    assert DAY / 3 - 60 < wait <= DAY / 3
    assert await shared.take(name, pace) <= wait  # a refusal costs nothing


async def test_a_bucket_fills_again(worker: Open, name: str) -> None:
    shared, pace = worker(), pace_of(2, 0.05)
    while not await shared.take(name, pace):
        pass
    while wait := await shared.take(name, pace):
        assert wait <= 0.025
        await anyio.sleep(wait)


async def test_buckets_are_of_one_key_each(worker: Open, name: str) -> None:
    shared = worker()
    assert await allowed(shared, name, pace_of(1, DAY), 2) == 1
    assert await allowed(shared, f"{name}'; -- é", pace_of(1, DAY), 2) == 1


async def test_nobody_waits_longer_than_the_limit_says(worker: Open, name: str) -> None:
    """The limit was another one before, or the clock was set back."""
    shared = worker()
    assert await allowed(shared, name, pace_of(2, 1000 * DAY), 3) == 2
    wait = await shared.take(name, pace_of(2, 60.0))
    assert 0 < wait <= 30


@pytest.mark.parametrize(
    "requests", [6e7, 2e8, 1e12, 10**400, 1e-9, 5e-324], ids=lambda each: f"{float(min(each, 1e99)):g}"
)
async def test_limits_without_measure_are_counted_too(worker: Open, name: str, requests: float) -> None:
    buckets = Buckets(worker(), Reach("there", deadline=10.0))
    waits = [await buckets.take(name, pace_of(requests)) for _ in range(2)]
    assert waits[0] == 0
    assert (waits[1] == 0) is (requests > 1)


async def test_a_database_that_is_written_to_elsewhere_since_is_connected_to_anew(
    postgres: str, database: str, name: str
) -> None:
    """After a failover: the old connection stands, to a server from which one can only read now."""
    made = PostgresShared(database)
    assert await made.take(name, pace_of(2, DAY)) == 0
    base, shared = urlsplit(database).path.removeprefix("/"), PostgresShared(database)
    await run_sync(admin, postgres, f'ALTER DATABASE "{base}" SET default_transaction_read_only = on')
    with pytest.raises(SinkError, match="read-only"):
        await shared.take(name, pace_of(2, DAY))
    await run_sync(admin, postgres, f'ALTER DATABASE "{base}" RESET ALL')
    assert await allowed(shared, name, pace_of(2, DAY), 2) == 1
    for each in (made, shared):
        await run_sync(each.close)


async def test_a_redis_that_was_made_a_replica_is_left_for_the_one_that_took_over(
    primary: str, redis: str, name: str
) -> None:
    with proxied(primary) as proxy:
        shared = RedisShared(redis_url(proxy.url))
        assert await allowed(shared, name, pace_of(2, DAY), 1) == 1
        await run_sync(demoted, primary)
        proxy.lead(redis)
        with pytest.raises(SinkError, match="read only replica"):
            await shared.take(name, pace_of(2, DAY))
        assert await allowed(shared, name, pace_of(2, DAY), 3) == 2
        await run_sync(shared.close)


def emptied(folder: Path) -> None:
    for each in folder.iterdir():
        each.unlink()


async def test_a_file_that_is_taken_away_is_made_anew(tmp_path: Path) -> None:
    """And all workers find the new one."""
    path, pace = tmp_path / "shared.db", pace_of(3, DAY)
    workers = [SqliteShared(path) for _ in range(2)]
    assert [await allowed(each, "a", pace, 1) for each in workers] == [1, 1]
    emptied(tmp_path)
    assert [await allowed(each, "a", pace, 2) for each in workers] == [2, 1]
    for each in workers:
        each.close()


async def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "shared.db").write_text("not a database, but long enough to be taken for something else")
    shared = SqliteShared(tmp_path / "shared.db")
    with pytest.raises(SinkError, match=r"shared\.db: file is not a database"):
        await shared.take("a", pace_of(1))
    (tmp_path / "shared.db").unlink()
    assert await allowed(shared, "a", pace_of(1, DAY), 2) == 1
    shared.close()


def test_the_rule_itself() -> None:
    pace = pace_of(3, 60.0)
    full, waits = None, list[int]()
    for now in (0, 0, 0, 0, 20_000_000, 20_000_000, 10**9, 10**9, 10**9, 10**9):
        full, wait = taken(full, now, pace)
        waits.append(wait)
    assert waits == [0, 0, 0, 20_000_000, 0, 20_000_000, 0, 0, 0, 20_000_000]


def test_less_than_one_request_is_one_less_often() -> None:
    assert pace_of(0.5, 60.0) == Pace(120_000_000, 0)


async def test_memory_counts_alike_and_forgets_what_is_full_again() -> None:
    now = [0.0]
    memory = MemoryShared(lambda: now[0])
    assert await allowed(memory, "a", pace_of(25, DAY), 40) == 25
    for number in range(10_000):
        await memory.take(str(number), pace_of(1, 1.0))
    now[0] = 2.0
    assert await allowed(memory, "b", pace_of(1, DAY), 2) == 1
    assert await allowed(memory, "a", pace_of(25, DAY), 1) == 0  # is not full yet


# -- versions ----------------------------------------------------------------------------------------------------------


async def test_workers_hear_of_each_other(worker: Open, name: str) -> None:
    one, two = worker(), worker()
    assert await one.announce(name, "1", "aaa", 60.0) == {"1": "aaa"}
    assert await two.announce(name, "2", "bbb", 60.0) == {"1": "aaa", "2": "bbb"}
    assert await one.announce(f"{name}-other", "3", "ccc", 60.0) == {"3": "ccc"}
    assert await one.announce(name, "1", "bbb", 60.0) == {"1": "bbb", "2": "bbb"}


async def test_who_is_gone_is_not_heard_of(worker: Open, name: str) -> None:
    one, two = worker(), worker()
    await one.announce(name, "1", "aaa", 60.0)
    assert await one.announce(name, "1", "aaa", 0.0) == {}
    assert await two.announce(name, "2", "bbb", 0.001) is not None
    found = {"2": "bbb"}
    while "2" in found:
        found = dict(await one.announce(name, "1", "aaa", 60.0))
    assert found == {"1": "aaa"}


async def test_memory_knows_itself() -> None:
    now = [0.0]
    memory = MemoryShared(lambda: now[0])
    assert await memory.announce("f", "1", "aaa", 5.0) == {"1": "aaa"}
    now[0] = 6.0
    assert await memory.announce("f", "2", "bbb", 5.0) == {"2": "bbb"}


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def key(name: str) -> Key:
    settings = {"requests_per_minute": 5, "é": ["\x00", None, {}]}
    return Key(name[:12], b"\x00\xff" * 16, "né", frozenset({"chat", "*"}), 0.1, 7.25, None, settings)


async def test_a_key_is_the_same_on_every_machine(tables: Callable[[], KeyTable], key: Key) -> None:
    one, two = tables(), tables()
    assert await two.find([key.id]) == []
    one.add(key)
    assert await two.find([key.id, "nobody"]) == [key]
    assert [each for each in two.all() if each.id == key.id] == [key]
    assert two.revoke(key.id, 9.5)
    assert not one.revoke(key.id, 10.0)
    (found,) = await one.find([key.id])
    assert found.revoked_at == 9.5


@pytest.mark.parametrize("settings", ["", "[]", '{"a":'])
async def test_a_row_that_cannot_be_read_is_nobody_s_key_and_who_asks_beside_gets_theirs(
    tables: Callable[[], KeyTable], key: Key, settings: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = tables()
    other = replace(key, id=f"{key.id}-other")
    for each in (key, other):
        table.add(each)
    await run_sync(spoil, table, key.id, settings)
    for _ in range(2):
        assert await table.find([key.id, other.id]) == [other]
    assert [each.id for each in await run_sync(table.all) if each.id.startswith(key.id)] == [other.id]
    assert [each for each in caplog.messages if key.id in each] == caplog.messages[:1]


def spoil(table: KeyTable, id: str, settings: str) -> None:
    """As by hand."""
    if isinstance(table, PostgresShared):
        admin(table._url, f"UPDATE gateway_keys SET settings = '{settings}' WHERE id = '{id}' RETURNING id")
        return
    assert isinstance(table, RedisShared)
    table._waited(lambda to: to.redis.hset(f"luthien_guard:key:{id}", {"settings": settings}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expires_at", "nan"),
        ("mac", "x"),
        ("mac", b"\xff"),
        ("created_at", ""),
        ("name", b"\xff"),
        ("scopes", b"\xff"),
    ],
)
async def test_a_key_of_redis_with_a_spoiled_field_is_nobody_s(
    redis: str, key: Key, field: str, value: object
) -> None:
    shared, other = RedisShared(redis), replace(key, id=f"{key.id}-other")
    for each in (key, other):
        shared.add(each)
    await run_sync(shared._waited, lambda to: to.redis.hset(f"luthien_guard:key:{key.id}", {field: value}))
    assert await shared.find([key.id, other.id]) == [other]
    await run_sync(shared.close)


async def test_a_name_of_redis_with_another_kind_of_value_is_nobody_s_key(
    redis: str, key: Key, caplog: pytest.LogCaptureFixture
) -> None:
    shared, other = RedisShared(redis), replace(key, id=f"{key.id}-other")
    shared.add(other)
    await run_sync(shared._waited, lambda to: to.redis.set(f"luthien_guard:key:{key.id}", "x"))
    for _ in range(2):
        assert await shared.find([key.id, other.id]) == [other]
    assert len([each for each in caplog.messages if f"'{key.id}' is no key" in each]) == 1
    await run_sync(shared.close)


def test_nobody_is_revoked(tables: Callable[[], KeyTable]) -> None:
    assert not tables().revoke("nobody", 1.0)


def test_keys_come_oldest_first(tables: Callable[[], KeyTable], name: str) -> None:
    table = tables()
    for number in (3, 1, 2):
        table.add(
            Key(f"{number}{name[:11]}", b"m", "", frozenset("*"), 1000.0 + number, None, None, {"of": name})
        )
    own = [each for each in table.all() if each.settings.get("of") == name]
    assert [each.created_at for each in own] == [1001.0, 1002.0, 1003.0]
    assert own[0].expires_at is None
