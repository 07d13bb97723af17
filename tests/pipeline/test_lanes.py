"""Two lanes, one order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from luthien_guard.clock import MonotonicClock
from luthien_guard.control_plane.service import Answer, Release, StreamingContext
from luthien_guard.limits import Limits
from luthien_guard.pipeline import Beside, Deadlines, Expiry, Lanes, beside
from luthien_guard.pipeline.batches import CAPACITY, ROOM
from luthien_guard.testing.clock import VirtualClock
from luthien_guard.testing.plane import ScriptedStream

pytestmark = pytest.mark.anyio

CONTEXT = StreamingContext("call", "openai.chat", 200, stream=True)
LATE = Expiry(504, "idle_timeout", "late")


class Held(ScriptedStream):
    """Holds everything from a piece with "?" on, until `verdicts` of its number is set; releases in order."""

    def __init__(self) -> None:
        super().__init__(CONTEXT)
        self.verdicts: dict[bytes, anyio.Event] = {}
        self.queue: list[bytes] = []
        self.new: list[bytes] = []
        self.judged: list[bytes] = []
        self.feeds: list[bytes] = []

    async def take(self, data: bytes, *, last: bool) -> Release:
        self.feeds.append(data)
        pending = 0
        for piece in filter(None, data.split(b"|")):
            self.queue.append(piece)
            if b"?" in piece:
                self.verdicts[piece] = anyio.Event()
                self.new.append(piece)
                pending += 1
        free: list[tuple[bytes, None]] = []
        while self.queue and (self.queue[0] not in self.verdicts or self.queue[0] in self.judged):
            free.append((self.queue.pop(0), None))
        return Release(items=tuple(free), pending=pending, held=sum(map(len, self.queue)))

    async def judge(self) -> None:
        mine, self.new = self.new, []
        for piece in mine:
            await self.verdicts[piece].wait()
            self.judged.append(piece)


class Bench:
    def __init__(self, stream: ScriptedStream, tasks: Beside) -> None:
        self.clock = VirtualClock()
        self.stream = stream
        self.written: list[bytes] = []
        self.releases: list[Release] = []
        self.ended = 0
        self.woken = 0
        self.gate: anyio.Event | None = None  # a slow client
        self.deadlines = Deadlines(self.clock, Limits())
        self.lanes = Lanes(
            stream,
            self.write,
            beside=tasks,
            deadlines=self.deadlines,
            wake=self.wake,
        )

    async def write(self, release: Release, *, end: bool) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self.releases.append(release)
        self.written += [raw for raw, _ in release.items]
        self.ended += end

    def wake(self) -> None:
        self.woken += 1


@asynccontextmanager
async def bench(stream: ScriptedStream) -> AsyncIterator[Bench]:
    async with beside(MonotonicClock(), lambda: None) as tasks:
        made = Bench(stream, tasks)
        try:
            yield made
        finally:
            made.lanes.close()


async def test_the_direct_lane_starts_no_task_and_wakes_nobody() -> None:
    async with bench(ScriptedStream(CONTEXT)) as b:
        for piece in (b"a", b"b"):
            await b.lanes.feed(piece, last=False)
        assert b.written == [b"a", b"b"]
        await b.lanes.feed(b"c", last=True)
        assert (b.written, b.ended, b.woken) == ([b"a", b"b", b"c"], 1, 0)
        assert b.lanes.over


async def test_a_pending_verdict_opens_the_stream_lane_and_keeps_the_order() -> None:
    stream = Held()
    async with bench(stream) as b:
        await b.lanes.feed(b"a", last=False)
        await b.lanes.feed(b"b?", last=False)
        assert b.lanes.queued
        await b.lanes.feed(b"c", last=False)
        await b.clock.rest()
        assert b.written == [b"a"]
        stream.verdicts[b"b?"].set()
        await b.clock.rest()
        assert b.written == [b"a", b"b?", b"c"]
        assert not b.lanes.queued, "the direct lane is open again"
        await b.lanes.feed(b"d", last=True)
        assert b.written[-1] == b"d"
        assert b.ended == 1


async def test_verdicts_run_together_and_leave_in_order() -> None:
    stream = Held()
    async with bench(stream) as b:
        for piece in (b"1?", b"2?", b"3?"):
            await b.lanes.feed(piece, last=False)
            await b.clock.rest()
        stream.verdicts[b"3?"].set()
        stream.verdicts[b"2?"].set()
        await b.clock.rest()
        assert sorted(stream.judged) == [b"2?", b"3?"], "each was decided while the first still waited"
        assert b.written == []
        stream.verdicts[b"1?"].set()
        await b.clock.rest()
        assert b.written == [b"1?", b"2?", b"3?"]
        assert not b.lanes.queued


async def test_what_waits_in_the_stream_lane_is_fed_as_one() -> None:
    stream = Held()
    async with bench(stream) as b:
        await b.lanes.feed(b"x?", last=False)
        for piece in (b"|a", b"|b", b"|c"):
            await b.lanes.feed(piece, last=False)
        await b.clock.rest()
        assert b"|a|b|c" in stream.feeds
        stream.verdicts[b"x?"].set()
        await b.clock.rest()
        assert b.written == [b"x?", b"a", b"b", b"c"]


async def test_the_end_waits_for_the_last_verdict() -> None:
    stream = Held()
    async with bench(stream) as b:
        await b.lanes.feed(b"x?", last=True)
        await b.clock.rest()
        assert b.ended == 0
        stream.verdicts[b"x?"].set()
        await b.clock.rest()
        assert (b.written, b.ended) == ([b"x?"], 1)


async def test_the_end_in_the_queue_waits_too() -> None:
    stream = Held()
    async with bench(stream) as b:
        await b.lanes.feed(b"x?", last=False)
        await b.lanes.feed(b"y", last=True)
        await b.clock.rest()
        assert b.ended == 0
        stream.verdicts[b"x?"].set()
        await b.clock.rest()
        assert (b.written, b.ended) == ([b"x?", b"y"], 1)


@pytest.mark.parametrize(("piece", "bound"), [(b"p", 5 * CAPACITY), (b"p" * ROOM, 9)])
async def test_a_client_that_does_not_read_stops_the_application(piece: bytes, bound: int) -> None:
    stream = Held()
    said = 0

    async def application(b: Bench) -> None:
        nonlocal said
        for _ in range(500):
            await b.lanes.feed(b"|" + piece, last=False)
            said += 1

    async with bench(stream) as b, anyio.create_task_group() as tasks:
        await b.lanes.feed(b"x?", last=False)
        b.gate = anyio.Event()
        stream.verdicts[b"x?"].set()
        tasks.start_soon(application, b)
        await b.clock.rest()
        assert said < bound, "the queue is bounded"
        b.gate.set()
        await b.clock.rest()
        assert said == 500
        assert b.written == [b"x?", *[piece] * 500]


async def test_many_verdicts_at_random_moments_never_change_the_order() -> None:
    stream = Held()
    pieces = [b"%d%s|" % (n, b"?" if n % 3 == 0 else b"") for n in range(60)]
    async with bench(stream) as b:
        for n, piece in enumerate(pieces):
            await b.lanes.feed(piece, last=n == len(pieces) - 1)
            if n % 7 == 6:
                await b.clock.rest()
                for waiting in sorted(stream.verdicts, key=lambda name: name[::-1])[: n // 2]:
                    stream.verdicts[waiting].set()
        await b.clock.rest()
        for event in list(stream.verdicts.values()):
            event.set()
        await b.clock.rest()
        assert b.written == [piece.rstrip(b"|") for piece in pieces]
        assert b.ended == 1


async def test_an_answer_ends_it() -> None:
    class Refusing(ScriptedStream):
        async def take(self, data: bytes, *, last: bool) -> Release:
            return Release(done=True, answer=Answer(403, "application/json", b"{}"))

    async with bench(Refusing(CONTEXT)) as b:
        await b.lanes.feed(b"a", last=False)
        await b.lanes.feed(b"b", last=False)
        assert [release.answer is not None for release in b.releases] == [True]
        assert b.ended == 1
        assert b.stream.fed == [b"a"], "what comes after the end is not fed"


async def test_failing_halts_the_verdicts_that_still_wait() -> None:
    stream = Held()
    async with bench(stream) as b:
        await b.lanes.feed(b"a", last=False)
        await b.lanes.feed(b"x?", last=False)
        await b.clock.rest()
        await b.lanes.fail(LATE)
        assert stream.failed == [(504, "idle_timeout")]
        assert b.ended == 1
        stream.verdicts[b"x?"].set()
        await b.clock.rest()
        assert b"x?" not in b.written
        await b.lanes.feed(b"late", last=True)
        await b.lanes.fail(LATE)
        assert b.ended == 1


async def test_a_feed_that_waits_is_noticed_and_one_that_does_not_is_not() -> None:
    class Waiting(ScriptedStream):
        gate: anyio.Event

        async def take(self, data: bytes, *, last: bool) -> Release:
            if data == b"slow":
                await self.gate.wait()
            return await super().take(data, last=last)

    stream = Waiting(CONTEXT)
    stream.gate = anyio.Event()
    async with bench(stream) as b, anyio.create_task_group() as tasks:
        await b.lanes.feed(b"quick", last=False)
        assert (b.woken, b.deadlines.waiting) == (0, 0)

        async def slow() -> None:
            await b.lanes.feed(b"slow", last=False)

        tasks.start_soon(slow)
        await b.clock.rest()
        assert (b.woken, b.deadlines.waiting) == (1, 1)
        stream.gate.set()
        await b.clock.rest()
        assert b.deadlines.waiting == 0


async def test_a_cancelled_feed_may_not_be_followed_by_another() -> None:
    class Hanging(ScriptedStream):
        async def take(self, data: bytes, *, last: bool) -> Release:
            await anyio.sleep_forever()
            raise AssertionError

    async with bench(Hanging(CONTEXT)) as b:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await b.lanes.feed(b"a", last=False)
        await b.lanes.feed(b"b", last=False)
        assert b.stream.fed == [b"a"]
        await b.lanes.fail(LATE)
        assert b.ended == 1


async def test_an_error_in_the_stream_lane_is_kept_and_wakes_the_watcher() -> None:
    class Broken(Held):
        async def judge(self) -> None:
            raise LookupError("broken judge")

    async with bench(Broken()) as b:
        await b.lanes.feed(b"x?", last=False)
        before = b.woken
        await b.clock.rest()
        assert isinstance(b.lanes.error, LookupError)
        assert b.woken > before
        await b.lanes.feed(b"y", last=False)
        await b.clock.rest()
        assert b.written == []


async def test_keepalives_come_between_writes_and_only_while_open() -> None:
    stream = Held()
    async with bench(stream) as b:
        await b.lanes.feed(b"a", last=False)
        await b.lanes.feed(b"x?", last=False)
        await b.clock.rest()
        assert b.deadlines.holding
        b.lanes.keepalive()
        await b.clock.rest()
        assert b.written == [b"a", b": keep-alive\n\n"]
        stream.verdicts[b"x?"].set()
        await b.clock.rest()
        assert not b.deadlines.holding
        await b.lanes.feed(b"z", last=True)
        b.lanes.keepalive()
        await b.clock.rest()
        assert b.written == [b"a", b": keep-alive\n\n", b"x?", b"z"]


async def test_who_is_just_being_written_to_needs_no_keepalive() -> None:
    async with bench(ScriptedStream(CONTEXT)) as b, anyio.create_task_group() as tasks:
        b.gate = anyio.Event()
        tasks.start_soon(partial(b.lanes.feed, b"a", last=False))
        await b.clock.rest()
        b.lanes.keepalive()
        await b.clock.rest()
        b.gate.set()
        await b.clock.rest()
        assert b.written == [b"a"]


async def test_a_release_waits_for_a_keepalive_on_its_way() -> None:
    stream = Held()
    async with bench(stream) as b:
        await b.lanes.feed(b"x?", last=False)
        await b.clock.rest()
        gate = b.gate = anyio.Event()
        b.lanes.keepalive()
        await b.clock.rest()
        b.gate = None  # the client takes whatever comes next at once
        stream.verdicts[b"x?"].set()
        await b.clock.rest()
        assert b.written == []
        gate.set()
        await b.clock.rest()
        assert b.written == [b": keep-alive\n\n", b"x?"]


async def test_a_keepalive_on_its_way_is_enough() -> None:
    stream = Held()
    async with bench(stream) as b:
        await b.lanes.feed(b"x?", last=False)
        await b.clock.rest()
        b.gate = anyio.Event()
        b.lanes.keepalive()
        b.lanes.keepalive()
        await b.clock.rest()
        b.gate.set()
        await b.clock.rest()
        assert b.written == [b": keep-alive\n\n"]


async def test_what_the_application_got_rid_of_in_time_leaves_before_the_failure() -> None:
    async with bench(ScriptedStream(CONTEXT)) as b:
        await b.lanes.feed(b"a", last=False, hurried=True)
        await b.lanes.feed(b"b", last=False, hurried=True)
        assert b.stream.fed == [], "both wait for the stream lane"
        await b.lanes.fail(LATE)
        assert b.written[0] == b"ab"
        assert b.stream.failed == [(504, "idle_timeout")]
        assert b.ended == 1


async def test_failing_does_not_halt_the_end_that_is_being_written() -> None:
    stream = Held()
    async with bench(stream) as b, anyio.create_task_group() as tasks:
        await b.lanes.feed(b"x?", last=True)
        await b.clock.rest()
        assert b.lanes.busy
        b.gate = anyio.Event()
        stream.verdicts[b"x?"].set()
        await b.clock.rest()
        assert b.lanes.ending
        tasks.start_soon(b.lanes.fail, LATE)
        await b.clock.rest()
        b.gate.set()
        await b.clock.rest()
        assert (b.written, b.ended) == ([b"x?"], 1)
        assert not (b.lanes.ending or b.lanes.busy)
        assert stream.failed == []


async def test_an_error_in_the_direct_lane_is_kept_too() -> None:
    class Broken(ScriptedStream):
        async def take(self, data: bytes, *, last: bool) -> Release:
            raise LookupError("broken")

    async with bench(Broken(CONTEXT)) as b:
        with pytest.raises(LookupError):
            await b.lanes.feed(b"a", last=False)
        assert isinstance(b.lanes.error, LookupError)
        assert not b.lanes.busy


async def test_an_error_in_a_keepalive_is_kept_and_wakes_the_watcher() -> None:
    class Breathless(Held):
        def keepalive(self) -> bytes:
            raise LookupError("no")

    async with bench(Breathless()) as b:
        b.lanes.keepalive()
        await b.clock.rest()
        assert isinstance(b.lanes.error, LookupError)
        assert b.woken == 1


class Stubborn(Held):
    """Its judge takes a cancellation for a failure of what he has asked, and asks once more."""

    tries = 0

    async def judge(self) -> None:
        while self.tries < 3:
            self.tries += 1
            try:
                await anyio.sleep_forever()
            except BaseException:
                continue


async def test_who_does_not_let_go_is_told_until_he_does() -> None:
    stream = Stubborn()
    with anyio.fail_after(20):
        async with bench(stream) as b:
            await b.lanes.feed(b"a?", last=False)
            await b.clock.rest()
            assert stream.tries == 1
            b.lanes.close()
    assert stream.tries == 3
