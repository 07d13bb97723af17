"""What workers share may be away, slow or silent: nobody waits for it, and nothing opens that should not."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync

from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.gateway.key import Key, new_key
from luthien_guard.gateway.pepper import Pepper
from luthien_guard.gateway.rate import Rates
from luthien_guard.gateway.shared.keys import SharedKeys
from luthien_guard.gateway.shared.memory import MemoryShared
from luthien_guard.gateway.shared.pace import Pace, pace_of
from luthien_guard.gateway.shared.reach import Away, Reach
from luthien_guard.gateway.shared.service import Shared
from luthien_guard.gateway.shared.urls import open_shared
from luthien_guard.gateway.shared.versions import Versions
from tests.gateway.shared.conftest import redis_url
from tests.gateway.shared.table import Table
from tests.sinks.proxy import Proxy, proxied

pytestmark = pytest.mark.anyio


class Now:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


def key(requests: int, id: str = "0123456789ab") -> Key:
    return Key(id, b"", "", frozenset("*"), 0.0, None, None, {"requests_per_minute": requests})


async def fails() -> None:
    raise SinkError("redis://somewhere: no")


async def fine() -> str:
    return "fine"


# -- asking ------------------------------------------------------------------------------------------------------------


async def test_a_service_that_failed_is_left_alone_for_a_while(now: Now) -> None:
    reach, asked = Reach("there", clock=now), list[float]()

    async def work() -> None:
        asked.append(now())
        await fails()

    for _ in range(3):
        with pytest.raises(Away):
            await reach.ask(work)
    now.seconds += 1.0
    for _ in range(3):
        with pytest.raises(Away):
            await reach.ask(work)
    assert asked == [1000.0, 1001.0]
    assert reach.away
    now.seconds += 1.0
    assert await reach.ask(fine) == "fine"
    assert not reach.away


async def test_one_question_finds_out_for_all(now: Now) -> None:
    reach, release, asked = Reach("there", clock=now, deadline=60.0), anyio.Event(), list[int]()
    with pytest.raises(Away):
        await reach.ask(fails)
    now.seconds += 1.0

    async def work() -> None:
        asked.append(1)
        await release.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reach.ask, work)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(Away):
            await reach.ask(work)
        release.set()
    assert asked == [1]
    assert not reach.away


async def test_silence_has_an_end(now: Now) -> None:
    reach = Reach("there", deadline=0.01, clock=now)
    with pytest.raises(Away):
        await reach.ask(anyio.sleep_forever)
    assert reach.away


async def test_a_process_that_is_busy_itself_hears_the_service_none_the_less(now: Now) -> None:
    """Nothing runs in this loop for longer than the deadline, again and again, and the answer takes some rounds."""
    reach = Reach("there", deadline=0.02, clock=now)
    busy = True

    async def blocks() -> None:
        while busy:
            threading.Event().wait(0.05)
            await checkpoint()

    async def work() -> str:
        for _ in range(3):
            await checkpoint()
        return "fine"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(blocks)
        await checkpoint()
        assert await reach.ask(work) == "fine"
        busy = False
    assert not reach.away


async def test_the_log_says_once_that_it_is_away_and_once_that_it_is_back(
    now: Now, caplog: pytest.LogCaptureFixture
) -> None:
    reach = Reach("redis://somewhere", what="the database of the keys", clock=now)
    with caplog.at_level(logging.INFO, logger="luthien_guard"):
        for _ in range(5):
            with pytest.raises(Away):
                await reach.ask(fails)
            now.seconds += 1.0
        await reach.ask(fine)
        await reach.ask(fine)
    assert [each.message for each in caplog.records] == [
        "the database of the keys is away: redis://somewhere: no",
        "the database of the keys answers again: redis://somewhere",
    ]


# -- limits ------------------------------------------------------------------------------------------------------------


class Gone(MemoryShared):
    """Answers while it is there."""

    there = True

    async def take(self, bucket: str, pace: Pace) -> float:
        if not self.there:
            await fails()
        return await super().take(bucket, pace)


async def test_without_the_service_each_worker_counts_alone(now: Now) -> None:
    shared = Gone(now)
    workers = [Rates(shared, Reach("there", clock=now), alone=MemoryShared(now)) for _ in range(2)]
    shared.there = False
    for rates in workers:
        answers = [await rates.refusal(key(3)) for _ in range(5)]
        assert [each is None for each in answers] == [True] * 3 + [False] * 2
        assert answers[-1] is not None
        assert answers[-1].status == 429
    shared.there = True
    now.seconds += 1.0
    assert [await rates.refusal(key(3)) is None for rates in workers * 2] == [True] * 3 + [False]


async def test_or_refuses_where_the_operator_says_so(now: Now) -> None:
    shared = Gone(now)
    shared.there = False
    rates = Rates(shared, Reach("there", clock=now), unshared="refuse")
    refusal = await rates.refusal(key(3))
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.retry_after) == (503, "limits_unavailable", 1.0)
    free = Key("0", b"", "", frozenset("*"), 0.0, None, None, {})
    assert await rates.refusal(free) is None


@asynccontextmanager
async def through_proxy(url: str) -> AsyncGenerator[tuple[Proxy, Shared]]:
    with proxied(url) as proxy:
        shared = open_shared(redis_url(proxy.url) if url.startswith("redis") else proxy.url)
        assert shared is not None
        try:
            yield proxy, shared
        finally:
            await run_sync(shared.close)


@pytest.fixture(params=["postgresql", "redis"])
def far(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("database" if request.param == "postgresql" else "redis"))


async def test_a_service_that_dies_stops_nobody(far: str, name: str) -> None:
    async with through_proxy(far) as (proxy, shared):
        reach = Reach(shared.place, deadline=10.0, pause=0.0)
        rates = Rates(shared, reach)
        assert [await rates.refusal(key(2, name)) is None for _ in range(3)] == [True, True, False]
        await run_sync(proxy.close)
        assert await rates.refusal(key(2, name)) is not None  # that it is empty was said
        assert [await rates.refusal(key(2, name[::-1])) is None for _ in range(3)] == [True, True, False]
        assert reach.away


async def test_a_service_that_falls_silent_stops_nobody(far: str, name: str) -> None:
    async with through_proxy(far) as (proxy, shared):
        await shared.take(name, pace_of(2))
        proxy.speaking.clear()
        reach = Reach(shared.place, deadline=0.05)
        rates = Rates(shared, reach)
        assert [await rates.refusal(key(2, name)) is None for _ in range(3)] == [True, True, False]
        assert reach.away


async def test_a_service_that_comes_back_counts_again(far: str, name: str) -> None:
    async with through_proxy(far) as (proxy, shared):
        pace = pace_of(3, 86400.0)
        assert await shared.take(name, pace) == 0
        taken = 1
        for _ in range(2):
            await run_sync(proxy.cut)
            while True:
                try:
                    taken += await shared.take(name, pace) == 0
                    break
                except SinkError:
                    pass
        assert taken <= 3
        assert [await shared.take(name, pace) == 0 for _ in range(3)][-1] is False


async def test_a_service_that_never_was_is_a_sink_error_without_its_password() -> None:
    for url in ("postgresql://u:hunter2@127.0.0.1:1/db", "redis://u:hunter2@127.0.0.1:1/0"):
        shared = open_shared(url)
        assert shared is not None
        with pytest.raises(SinkError, match=r"127\.0\.0\.1:1") as caught:
            await shared.take("x", pace_of(1))
        assert "hunter2" not in str(caught.value) + shared.place
        assert urlsplit(shared.place).port == 1
        await run_sync(shared.close)


# -- keys --------------------------------------------------------------------------------------------------------------


class Known:
    def __init__(self, now: Now, grace: float = 60.0) -> None:
        self.table = Table()
        pepper, reach = Pepper(Path(), b"p" * 32), Reach("there", clock=now)
        self.keys = SharedKeys(self.table, pepper, reach=reach, grace=grace, clock=now)


async def test_what_was_found_counts_for_half_a_second(now: Now) -> None:
    known = Known(now)
    known.table.add(key(1))
    for _ in range(10):
        assert await known.keys.find("0123456789ab") == key(1)
        now.seconds += 0.1
    assert len(known.table.asked) == 2


async def test_who_is_not_found_is_asked_for_each_time(now: Now) -> None:
    known = Known(now)
    assert await known.keys.find("0123456789ab") is None
    known.table.add(key(1))
    assert await known.keys.find("0123456789ab") == key(1)


async def test_a_key_that_is_gone_is_gone(now: Now) -> None:
    known = Known(now)
    known.table.add(key(1))
    await known.keys.find("0123456789ab")
    known.table.keys.clear()
    now.seconds += 0.5
    assert await known.keys.find("0123456789ab") is None
    known.table.there = False
    now.seconds += 0.5
    with pytest.raises(SinkError):
        await known.keys.find("0123456789ab")


@pytest.mark.parametrize("grace", [60.0, 5.0, 0.0])
async def test_a_known_key_counts_for_a_while_without_the_database(now: Now, grace: float) -> None:
    known = Known(now, grace=grace)
    known.table.add(key(1))
    await known.keys.find("0123456789ab")
    known.table.there = False
    end, seen = now.seconds + grace, 0
    now.seconds += 0.5
    while now.seconds < end:
        assert await known.keys.find("0123456789ab") == key(1)
        now.seconds += 0.5
        seen += 1
    with pytest.raises(SinkError):
        await known.keys.find("0123456789ab")
    with pytest.raises(SinkError):
        await known.keys.find("ffffffffffff")
    assert seen == max(0, int(grace * 2) - 1)
    known.table.there = True
    now.seconds += 1.0
    assert await known.keys.find("0123456789ab") == key(1)


async def test_a_key_of_another_pepper_is_told(now: Now) -> None:
    table = Table()
    machines = [SharedKeys(table, Pepper(Path(), each * 32), clock=now) for each in (b"p", b"q")]
    made, _ = machines[0].create("me")
    assert await machines[0].find(made.id) == made
    with pytest.raises(ConfigError, match="LUTHIEN_PEPPER"):
        await machines[1].find(made.id)


async def test_only_so_many_are_remembered(now: Now) -> None:
    known = Known(now)
    for number in range(10_001):
        known.table.add(key(1, str(number)))
        await known.keys.find(str(number))
    known.table.there = False
    assert await known.keys.find("10000") is not None
    with pytest.raises(SinkError):
        await known.keys.find("0")


# -- versions ----------------------------------------------------------------------------------------------------------


def two(now: Now, shared: Shared, running: list[str], pause: float = 1.0) -> list[Versions]:
    def version(number: int) -> Callable[[], str]:
        return lambda: running[number]

    return [
        Versions(shared, Reach("there", clock=now, pause=pause), version(number), reload=60.0, clock=now)
        for number in range(2)
    ]


async def test_workers_that_disagree_for_longer_than_a_reload_are_told(now: Now) -> None:
    running = ["aaa", "aaa"]
    workers = two(now, MemoryShared(now), running)

    async def announced() -> list[int]:
        for each in workers * 2:
            await each.announce()
        return [each.differ for each in workers]

    assert await announced() == [0, 0]
    running[0] = "bbb"
    assert await announced() == [0, 0]
    for _ in range(6):
        now.seconds += 9.9
        assert await announced() == [0, 0]
    now.seconds += 1.0
    assert await announced() == [2, 2]
    running[1] = "bbb"
    assert await announced() == [0, 0]


async def test_a_worker_that_ended_disagrees_with_nobody(now: Now) -> None:
    running = ["aaa", "bbb"]
    one, other = two(now, MemoryShared(now), running)
    await other.announce()
    await one.announce()
    now.seconds += 61.0
    assert one.differ == 2
    await one.announce()
    assert one.differ == 0


async def test_who_ends_takes_it_back(now: Now) -> None:
    shared = MemoryShared(now)
    one, other = two(now, shared, ["aaa", "bbb"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other.run)
        await anyio.wait_all_tasks_blocked()
        await one.announce()
        assert one.running == {"aaa", "bbb"}
        tasks.cancel_scope.cancel()
    await one.announce()
    assert one.running == {"aaa"}


def test_a_new_key_is_kept_as_its_mac_alone() -> None:
    made, text = new_key(lambda text: text[::-1].encode(), "me", seconds=5.0)
    assert made.mac == text[::-1].encode()
    assert made.expires_at == made.created_at + 5.0
