"""What a sender can cause is not the silence of a service: a burst opens no limit, and locks nobody else out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from luthien_guard.errors import SinkError
from luthien_guard.gateway.auth import Refusal
from luthien_guard.gateway.key import Key
from luthien_guard.gateway.pepper import Pepper
from luthien_guard.gateway.rate import Rates
from luthien_guard.gateway.shared.buckets import Buckets
from luthien_guard.gateway.shared.keys import SharedKeys
from luthien_guard.gateway.shared.memory import MemoryShared
from luthien_guard.gateway.shared.pace import Pace, pace_of
from luthien_guard.gateway.shared.reach import Away, Busy, Reach
from luthien_guard.gateway.shared.together import Together
from tests.gateway.shared.table import Table

pytestmark = pytest.mark.anyio


def key(requests: float, id: str = "0123456789ab") -> Key:
    return Key(id, b"", "", frozenset("*"), 0.0, None, None, {"requests_per_minute": requests})


class Slow(MemoryShared):
    """Answers after some rounds of the loop, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(lambda: 1000.0)
        self.asked: list[str] = []
        self.under_way = self.most = 0

    async def take(self, bucket: str, pace: Pace) -> float:
        self.asked.append(bucket)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        self.under_way -= 1
        return await super().take(bucket, pace)


async def answers(rates: Rates, keys: Sequence[Key]) -> list[Refusal | None]:
    """All at once."""
    found: list[Refusal | None] = [None] * len(keys)

    async def one(at: int) -> None:
        found[at] = await rates.refusal(keys[at])

    async with anyio.create_task_group() as tasks:
        for at in range(len(keys)):
            tasks.start_soon(one, at)
    return found


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unshared", ["alone", "refuse"])
@pytest.mark.parametrize("limit", [1, 10, 300, 10_000])
async def test_a_burst_of_one_key_is_a_few_questions(limit: int, unshared: Any) -> None:
    shared, reach = Slow(), Reach("there", deadline=60.0)
    rates = Rates(shared, reach, unshared=unshared)
    found = await answers(rates, [key(limit)] * 500)
    assert found.count(None) == min(limit, 500)
    assert {each.status for each in found if each is not None} <= {429}
    assert len(shared.asked) <= 4
    assert not reach.away


async def test_a_bucket_that_is_empty_is_not_asked_again_before_there_is_something_in_it() -> None:
    now, shared = [0.0], Slow()
    buckets, pace = Buckets(shared, Reach("there", deadline=60.0), lambda: now[0]), pace_of(2, 60.0)
    waits = [await buckets.take("a", pace) for _ in range(9)]
    assert waits == [0.0, 0.0, *[30.0] * 7]
    assert len(shared.asked) == 3
    now[0] = 29.0
    assert await buckets.take("a", pace) == 1.0
    assert len(shared.asked) == 3
    now[0] = 31.0
    assert await buckets.take("a", pace) == 30.0  # the service's clock decides
    assert len(shared.asked) == 4


async def test_what_another_worker_took_is_not_given_twice() -> None:
    shared = Slow()
    workers = [Rates(shared, Reach("there", deadline=60.0)) for _ in range(3)]
    found: list[Refusal | None] = []

    async def one(rates: Rates) -> None:
        found.extend(await answers(rates, [key(100)] * 60))

    async with anyio.create_task_group() as tasks:
        for rates in workers:
            tasks.start_soon(one, rates)
    assert found.count(None) == 100


async def test_what_waits_for_its_turn_waits_at_home() -> None:
    shared, reach = Slow(), Reach("there", deadline=60.0)
    keys = [key(5, str(number)) for number in range(50)]
    assert await answers(Rates(shared, reach), keys) == [None] * 50
    assert (shared.most, len(shared.asked)) == (1, 50)
    assert not reach.away


@pytest.mark.parametrize("unshared", ["alone", "refuse"])
async def test_a_line_that_is_too_long_opens_nothing(unshared: Any) -> None:
    shared, reach = Slow(), Reach("there", deadline=60.0, line=10)
    found = await answers(
        Rates(shared, reach, unshared=unshared), [key(5, str(number)) for number in range(50)]
    )
    assert found.count(None) == 11
    assert {(each.status, each.code) for each in found if each is not None} == {(503, "limits_unavailable")}
    assert not reach.away


async def test_who_waited_while_it_went_hears_that_it_is_away() -> None:
    reach, release, asked = Reach("there", deadline=60.0), anyio.Event(), list[int]()

    async def fails() -> None:
        asked.append(1)
        await release.wait()
        raise SinkError("no")

    async def one() -> None:
        with pytest.raises(Away):
            await reach.ask(fails)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert asked == [1]


def test_many_are_taken_like_one_after_another() -> None:
    pace = pace_of(2.5, 60.0)
    assert (pace.most, pace.times(1), pace.times(2)) == (2, pace, Pace(48_000_000, 12_000_000))
    assert pace_of(0.5, 60.0).most == 1


# -- keys --------------------------------------------------------------------------------------------------------------


def shared_keys(table: Table, now: Callable[[], float]) -> SharedKeys:
    return SharedKeys(table, Pepper(Path(), b"p" * 32), reach=Reach("there", deadline=60.0), clock=now)


async def test_a_flood_of_made_up_keys_is_one_question_after_another() -> None:
    table = Table(key(1))
    keys, found = shared_keys(table, lambda: 1000.0), list[Key | None]()

    async def one(id: str) -> None:
        found.append(await keys.find(id))

    async with anyio.create_task_group() as tasks:
        for number in range(500):
            tasks.start_soon(one, str(number))
        tasks.start_soon(one, "0123456789ab")
    assert table.asked == [1, 500]
    assert [each for each in found if each is not None] == [key(1)]


async def test_strangers_are_turned_away_before_who_is_known_waits_for_them() -> None:
    now = [1000.0]
    table = Table(key(1))
    keys, found, busy = shared_keys(table, lambda: now[0]), list[Key | None](), list[str]()
    await keys.find("0123456789ab")
    now[0] += 5.0

    async def one(id: str) -> None:
        try:
            found.append(await keys.find(id))
        except Busy:
            busy.append(id)

    async with anyio.create_task_group() as tasks:
        for number in range(1500):
            tasks.start_soon(one, str(number))
        tasks.start_soon(one, "0123456789ab")
    assert table.asked[1:] in ([1, 1001], [1, 1000])  # who is known came with the others, or before them
    assert len(busy) in (499, 500)
    assert found.count(key(1)) == 1


async def test_a_flood_does_not_keep_a_key_alive_that_is_gone() -> None:
    now = [1000.0]
    table = Table(key(1))
    keys = shared_keys(table, lambda: now[0])
    assert await keys.find("0123456789ab") == key(1)
    table.keys.clear()
    now[0] += 0.5
    async with anyio.create_task_group() as tasks:
        for number in range(900):
            tasks.start_soon(keys.find, str(number))
        await anyio.lowlevel.checkpoint()
        assert await keys.find("0123456789ab") is None


# -- one question for all ----------------------------------------------------------------------------------------------


async def test_who_asks_for_all_may_leave() -> None:
    release, asked = anyio.Event(), list[list[int]]()

    async def work(questions: Sequence[int]) -> list[int]:
        asked.append(list(questions))
        await release.wait()
        return [each * 2 for each in questions]

    together, found = Together(work), list[int]()

    async def one(question: int) -> None:
        found.append(await together.ask(question))

    async with anyio.create_task_group() as tasks:
        scopes = [anyio.CancelScope() for _ in range(2)]

        async def leaves(scope: anyio.CancelScope, question: int) -> None:
            with scope:
                await one(question)

        tasks.start_soon(leaves, scopes[0], 1)  # asks
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(leaves, scopes[1], 2)  # is to ask for the next
        await anyio.wait_all_tasks_blocked()
        for number in (3, 4):
            tasks.start_soon(one, number)
        await anyio.wait_all_tasks_blocked()
        assert (asked, together.waiting) == ([[1]], 3)
        scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
        scopes[0].cancel()
        await anyio.wait_all_tasks_blocked()
        release.set()
    assert sorted(found) == [6, 8]
    assert [sorted(each) for each in asked] == [[1], [3, 4]]
    assert together.waiting == 0


async def test_a_failure_is_that_of_all_who_asked() -> None:
    asked: list[int] = []

    async def work(questions: Sequence[int]) -> list[int]:
        asked.append(len(questions))
        await anyio.lowlevel.checkpoint()
        raise SinkError("no")

    together, failed = Together(work), list[int]()

    async def one(question: int) -> None:
        with pytest.raises(SinkError, match="no"):
            await together.ask(question)
        failed.append(question)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(one, number)
    assert len(failed) == 5
    assert asked == [1, 4]
