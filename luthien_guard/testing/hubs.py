"""`check_pubsub`: does a hub keep what subscribers rely on? For hubs of your own too.

async def test_my_hub():
    await check_pubsub(lambda: MyHub("..."))
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
from anyio.abc import TaskStatus
from anyio.to_thread import run_sync

from luthien_guard.pubsub import GAP, Notice, PubSub
from luthien_guard.store import Row
from luthien_guard.testing.sinks import exchange_rows

__all__ = ["check_pubsub"]

_PATIENCE = 30.0  # seconds until what has to come has not come
_MANY = 3000

Write = Callable[[Sequence[Row]], object]


async def check_pubsub(make: Callable[[], PubSub], *, write: Write | None = None) -> None:
    """Run every check on one hub, which `make` gives, closed. `write`, for hubs that watch a store, stores rows before
    they are published. On the event loop that runs it: try both. Raises AssertionError that says which promise is
    broken."""
    hub = make()
    await run_sync(hub.open)
    try:
        told = _Teller(hub, write)
        await _tells_what_happens_now(hub, told)
        await _tells_everybody(hub, told)
        await _resumes(hub, told)
        await _admits_what_it_does_not_know(hub, told)
        await _is_not_slowed(hub, told)
        await _outlives_a_subscriber(hub, told)
    finally:
        await run_sync(hub.close)
    await run_sync(hub.close)  # twice is allowed


class _Teller:
    """Stores and publishes a few rows at a time, never the same."""

    def __init__(self, hub: PubSub, write: Write | None) -> None:
        self._hub = hub
        self._write = write
        self._number = 0

    async def __call__(self, exchanges: int = 1) -> list[Notice]:
        rows: list[Row] = []
        for _ in range(exchanges):
            self._number += 1
            rows += exchange_rows(self._number, "text")
        if self._write is not None:
            await run_sync(self._write, rows)
        notices = [Notice("", row.call_id, row.seq, row.at, row.event_type, row.policy) for row in rows]
        with anyio.move_on_after(_PATIENCE) as scope:
            await run_sync(self._hub.publish, notices, abandon_on_cancel=True)
        assert not scope.cancelled_caught, "publishing never ends"
        return notices


async def _next(notices: AsyncIterator[Notice], promise: str) -> Notice:
    with anyio.move_on_after(_PATIENCE):
        async for notice in notices:
            return notice
        raise AssertionError(f"{promise}: the notices ended")
    raise AssertionError(f"{promise}: no notice came in {_PATIENCE:g} s")


async def _heard(notices: AsyncIterator[Notice], wanted: Sequence[Notice], promise: str) -> list[Notice]:
    """As many as are wanted, and these."""
    found = [await _next(notices, promise) for _ in wanted]
    _same(promise, found, wanted)
    return found


def _same(promise: str, found: Sequence[Notice], wanted: Sequence[Notice]) -> None:
    plain = [replace(each, id="") for each in found]
    assert plain == list(wanted), f"{promise}: expected {list(wanted)!r}, found {plain!r}"[:2000]


@asynccontextmanager
async def _subscribed(hub: PubSub, after: str | None = None) -> AsyncGenerator[AsyncIterator[Notice]]:
    with anyio.move_on_after(10 * _PATIENCE) as scope:
        async with hub.subscribe(after=after) as notices:
            yield notices
    assert not scope.cancelled_caught, "a subscription never ends"


async def _tells_what_happens_now(hub: PubSub, told: _Teller) -> None:
    await told()
    async with _subscribed(hub) as notices:
        found = await _heard(
            notices, await told(2), "a subscriber hears what comes, in order, and nothing of before"
        )
        found += await _heard(notices, await told(), "and what comes later")
    ids = {each.id for each in found}
    assert len(ids - {""}) == len(found), f"every notice has an id of its own: {ids}"


async def _tells_everybody(hub: PubSub, told: _Teller) -> None:
    async with _subscribed(hub) as one, _subscribed(hub) as two:
        wanted = await told()
        await _heard(one, wanted, "the first of two subscribers hears all")
        await _heard(two, wanted, "the second of two subscribers hears all")


async def _resumes(hub: PubSub, told: _Teller) -> None:
    async with _subscribed(hub) as notices:
        wanted = await told(2)
        found = await _heard(notices, wanted, "a subscriber hears what comes")
    wanted = [*wanted[2:], *await told()]
    async with _subscribed(hub, after=found[1].id) as notices:
        first = await _next(notices, "whoever resumes hears something")
        if first.event_type != GAP:
            _same("whoever resumes hears what followed", [first], wanted[:1])
            await _heard(notices, wanted[1:], "whoever resumes hears all that followed")
        await _heard_after_gap(notices, await told(), "after that, what comes")


async def _admits_what_it_does_not_know(hub: PubSub, told: _Teller) -> None:
    for id in ("99999999999999-0", "no such id", ""):
        async with _subscribed(hub, after=id) as notices:
            first = await _next(notices, f"resuming after an unknown id ({id!r})")
            assert first.event_type == GAP, (
                f"after an id that nobody knows ({id!r}) a GAP comes first: {first!r}"
            )
            await _heard_after_gap(notices, await told(), "after a GAP, what comes")


async def _heard_after_gap(notices: AsyncIterator[Notice], wanted: Sequence[Notice], promise: str) -> None:
    """What is kept may come before."""
    while replace(first := await _next(notices, promise), id="") != wanted[0]:
        pass
    _same(promise, [first], wanted[:1])
    await _heard(notices, wanted[1:], promise)


async def _is_not_slowed(hub: PubSub, told: _Teller) -> None:
    async with _subscribed(hub) as slow, _subscribed(hub) as quick:
        wanted: list[Notice] = []
        while len(wanted) < _MANY:
            group = await told(25)
            await _heard(quick, group, "a slow subscriber takes nothing from a quick one")
            wanted += group
        await _nothing_missing(slow, wanted, told)


async def _nothing_missing(slow: AsyncIterator[Notice], wanted: list[Notice], told: _Teller) -> None:
    """In order, and a GAP where some are left out."""
    place, lost = 0, False
    while place < len(wanted):
        found = await _next(slow, "a slow subscriber hears the rest, or of a gap")
        if found.event_type == GAP:
            lost = True
            wanted += await told()  # if the gap was the end, here is something to go on with
            continue
        found = replace(found, id="")
        assert found in wanted[place:], f"a slow subscriber hears things in order, and once: {found!r}"
        skipped = wanted.index(found, place) - place
        assert lost or not skipped, f"{skipped} notices are missing before {found!r}, and nothing says so"
        place, lost = place + skipped + 1, False


async def _outlives_a_subscriber(hub: PubSub, told: _Teller) -> None:
    async with _subscribed(hub) as stays:
        async with anyio.create_task_group() as group:
            await group.start(_waits, hub)
            group.cancel_scope.cancel()
        await _heard(stays, await told(), "one who leaves disturbs nobody")


async def _waits(hub: PubSub, *, task_status: TaskStatus[None]) -> None:
    async with hub.subscribe() as notices:
        task_status.started()
        async for _ in notices:
            pass
