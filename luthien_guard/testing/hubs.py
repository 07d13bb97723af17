"""`check_pubsub`: does a hub keep what subscribers rely on? For hubs of your own too.

async def test_my_hub():
    await check_pubsub(lambda: MyHub("..."))
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import anyio
from anyio.abc import TaskStatus
from anyio.to_thread import run_sync

from luthien_guard.pubsub import GAP, Notice, PubSub
from luthien_guard.store import Row
from luthien_guard.testing.sinks.promises import same
from luthien_guard.testing.sinks.rows import exchange_rows

__all__ = ["check_pubsub"]

_MANY: Final = 3000

Write = Callable[[Sequence[Row]], object]


async def check_pubsub(
    make: Callable[[], PubSub], *, write: Write | None = None, patience: float = 30.0
) -> None:
    """Run every check on one hub, which `make` gives, closed. `write`, for hubs that watch a store, stores rows before
    they are published. `patience`: seconds in which a notice has to arrive. On the event loop that runs it: try both.
    Raises AssertionError that says which promise is broken."""
    hub = make()
    await run_sync(hub.open)
    try:
        trial = _Trial(hub, write, patience)
        await _tells_what_happens_now(trial)
        await _tells_everybody(trial)
        await _resumes(trial)
        await _admits_what_it_does_not_know(trial)
        await _is_not_slowed(trial)
        await _outlives_a_subscriber(trial)
        await _ends_subscriptions(trial, patience)
    finally:
        await run_sync(hub.close)
    await run_sync(hub.close)  # twice is allowed


class _Trial:
    """A hub on trial: something new happens, and who hears it?"""

    def __init__(self, hub: PubSub, write: Write | None, patience: float) -> None:
        self.hub = hub
        self._write = write
        self._patience = patience
        self._number = 0

    async def publish(self, exchanges: int = 1) -> list[Notice]:
        """Rows that never were, stored and published. Returns their notices, without ids."""
        rows: list[Row] = []
        for _ in range(exchanges):
            self._number += 1
            rows += exchange_rows(self._number, "text")
        if self._write is not None:
            await run_sync(self._write, rows)
        notices = [Notice("", row.call_id, row.seq, row.at, row.event_type, row.policy) for row in rows]
        with anyio.move_on_after(self._patience) as scope:
            await run_sync(self.hub.publish, notices, abandon_on_cancel=True)
        assert not scope.cancelled_caught, "publishing never ends"
        return notices

    @asynccontextmanager
    async def subscriber(self, after: str | None = None) -> AsyncGenerator[_Subscriber]:
        async with self.hub.subscribe(after=after) as notices:
            yield _Subscriber(notices, self._patience)


class _Subscriber:
    def __init__(self, notices: AsyncIterator[Notice], patience: float) -> None:
        self._notices = notices
        self._patience = patience

    async def next(self, promise: str) -> Notice:
        with anyio.move_on_after(self._patience):
            async for notice in self._notices:
                return notice
            raise AssertionError(f"{promise}: the notices ended")
        raise AssertionError(f"{promise}: no notice came in {self._patience:g} s")

    async def hears(self, wanted: Sequence[Notice], promise: str) -> list[Notice]:
        """These, and nothing between them."""
        found = [await self.next(promise) for _ in wanted]
        _same(promise, found, wanted)
        return found

    async def hears_at_last(self, wanted: Sequence[Notice], promise: str) -> None:
        """These; what is kept may come before."""
        while replace(await self.next(promise), id="") != wanted[0]:
            pass
        await self.hears(wanted[1:], promise)


def _same(promise: str, found: Sequence[Notice], wanted: Sequence[Notice]) -> None:
    same(promise, [replace(each, id="") for each in found], list(wanted))


async def _tells_what_happens_now(trial: _Trial) -> None:
    await trial.publish()
    async with trial.subscriber() as one:
        found = await one.hears(
            await trial.publish(2), "a subscriber hears what comes, in order, and nothing of before"
        )
        found += await one.hears(await trial.publish(), "and what comes later")
    ids = {each.id for each in found} - {""}
    assert len(ids) == len(found), f"every notice has an id of its own: {ids}"


async def _tells_everybody(trial: _Trial) -> None:
    async with trial.subscriber() as one, trial.subscriber() as two:
        wanted = await trial.publish()
        await one.hears(wanted, "the first of two subscribers hears all")
        await two.hears(wanted, "the second of two subscribers hears all")


async def _resumes(trial: _Trial) -> None:
    async with trial.subscriber() as one:
        wanted = await trial.publish(2)
        found = await one.hears(wanted, "a subscriber hears what comes")
    wanted = [*wanted[2:], *await trial.publish()]
    async with trial.subscriber(after=found[1].id) as one:
        first = await one.next("whoever resumes hears something")
        if first.event_type != GAP:
            _same("whoever resumes hears what followed", [first], wanted[:1])
            await one.hears(wanted[1:], "whoever resumes hears all that followed")
        await one.hears_at_last(await trial.publish(), "after that, what comes")


async def _admits_what_it_does_not_know(trial: _Trial) -> None:
    for id in ("99999999999999-0", "no such id", ""):
        async with trial.subscriber(after=id) as one:
            first = await one.next(f"after an id that nobody knows ({id!r})")
            assert first.event_type == GAP, (
                f"after an id that nobody knows ({id!r}) a GAP comes first: {first!r}"
            )
            await one.hears_at_last(await trial.publish(), "after a GAP, what comes")


async def _is_not_slowed(trial: _Trial) -> None:
    async with trial.subscriber() as slow, trial.subscriber() as quick:
        wanted: list[Notice] = []
        while len(wanted) < _MANY:
            group = await trial.publish(25)
            await quick.hears(group, "a slow subscriber takes nothing from a quick one")
            wanted += group
        await _misses_nothing(slow, wanted, trial)


async def _misses_nothing(slow: _Subscriber, wanted: list[Notice], trial: _Trial) -> None:
    """In order, and a GAP where some are left out."""
    place, lost = 0, False
    while place < len(wanted):
        found = await slow.next("a slow subscriber hears the rest, or of a gap")
        if found.event_type == GAP:
            lost = True
            wanted += await trial.publish()  # if the gap was the end, here is something to go on with
            continue
        found = replace(found, id="")
        assert found in wanted[place:], f"a slow subscriber hears things in order, and once: {found!r}"
        skipped = wanted.index(found, place) - place
        assert lost or not skipped, f"{skipped} notices are missing before {found!r}, and nothing says so"
        place, lost = place + skipped + 1, False


async def _outlives_a_subscriber(trial: _Trial) -> None:
    async with trial.subscriber() as stays:
        async with anyio.create_task_group() as group:
            await group.start(_waits, trial.hub)
            group.cancel_scope.cancel()
        await stays.hears(await trial.publish(), "one who leaves disturbs nobody")


async def _ends_subscriptions(trial: _Trial, patience: float) -> None:
    async with trial.hub.subscribe() as notices:
        await run_sync(trial.hub.close)
        with anyio.move_on_after(patience) as scope:
            async for _ in notices:
                pass
        assert not scope.cancelled_caught, "closing a hub ends its subscriptions"


async def _waits(hub: PubSub, *, task_status: TaskStatus[None]) -> None:
    async with hub.subscribe() as notices:
        task_status.started()
        async for _ in notices:
            pass
