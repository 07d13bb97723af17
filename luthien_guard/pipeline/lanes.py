"""The two lanes of a response and the one order that both keep.

    direct   app.send -> feed -> write                       no task, no queue; back-pressure is the app's own await
    stream   app.send -> queue -> [lane task] feed -> write  while verdicts are pending; each settles in its own task

Order: only `feed` releases anything, and it runs under one lock together with its write. Verdicts are decided beside
it, several at once (`decide_pending`); what they freed is collected by an empty `feed` in its turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import anyio
from anyio.lowlevel import checkpoint

from luthien_guard.cancellation import must_travel
from luthien_guard.control_plane.service import GuardedStream, Release
from luthien_guard.engine.suspension import rest
from luthien_guard.pipeline.batches import Batches
from luthien_guard.pipeline.beside import Beside, Task
from luthien_guard.pipeline.deadlines import Deadlines, Expiry
from luthien_guard.pipeline.turn import Turn

__all__ = ["Lanes", "Write"]


class Write(Protocol):
    """Takes a release to the client; `end`: nothing comes after it. Called one at a time, in order."""

    def __call__(self, release: Release, *, end: bool) -> Awaitable[None]: ...


async def _nobody(release: Release, *, end: bool) -> None:
    """Gets nothing."""


class Lanes:
    """One `GuardedStream` between an application that sends and a client that gets."""

    __slots__ = (
        "_beside",
        "_breath",
        "_deadlines",
        "_draining",
        "_fed_last",
        "_halted",
        "_queued",
        "_settling",
        "_tasks",
        "_turn",
        "_wake",
        "_write",
        "_writing",
        "batches",
        "broken",
        "error",
        "lingers",
        "over",
        "stream",
    )

    def __init__(
        self,
        stream: GuardedStream,
        write: Write,
        *,
        beside: Beside,
        deadlines: Deadlines,
        wake: Callable[[], None],
    ) -> None:
        self.stream = stream
        self.batches = Batches()  # what waits for the stream lane
        self.over = False  # the last byte was written, or may not be written any more
        self.lingers = False  # the answer is complete, and verdicts without a say in it are still to come
        self.error: BaseException | None = None  # what a decision or the stream lane failed with
        self.broken = False  # a feed did not finish: only `fail` may end the answer
        self._write: Write = write
        self._beside = beside
        self._deadlines = deadlines
        self._wake = wake  # the watcher has something new to look at
        self._turn = Turn()
        self._queued = False  # the stream lane is open
        self._draining = False  # it has its task
        self._settling = 0
        self._fed_last = False
        self._writing = False
        self._breath: anyio.Event | None = None  # a keep-alive on its way
        self._halted = False
        self._tasks: set[Task] = set()

    @property
    def _closed(self) -> bool:
        return self.over or self.broken

    @property
    def queued(self) -> bool:
        """True while pieces go through the stream lane."""
        return self._queued

    @property
    def ending(self) -> bool:
        """True while the end of the answer is being written."""
        return self.over and self._writing

    @property
    def busy(self) -> bool:
        """True while the stream lane will say more of what the application has said."""
        return not self.broken and (self._draining or self._settling > 0 or bool(self._tasks))

    async def feed(self, data: bytes, *, last: bool, hurried: bool = False) -> None:
        """The next piece from the application. Returns when it may send the next one. `hurried`: they follow so closely on
        one another that there will be more, for which a task is worth its while: it takes them together."""
        if hurried and not last and not self._turn.taken and self._is_direct():
            self._queued = True
        if not (self._queued or self.over or self.broken):
            turn = self._turn
            if turn.taken:
                await turn.take()
            else:
                turn.taken = True
            try:
                # Another sender may have opened the stream lane while this one waited for its turn.
                if self._is_direct():
                    await self._decide(data, last)
                    return
            finally:
                turn.give()
        if not self._closed:
            await self._enqueue(data, last)

    async def fail(self, expiry: Expiry) -> None:
        """End the answer for a reason that is not the policies'. Halts the stream lane first, unless it is writing the
        end already: half of that would be worse than none."""
        if not self.ending:
            self._halt()
        await self._turn.take()
        try:
            if self._queued and not self._settling and not self._closed:
                await self._decide(*self.batches.taken())  # what the application got rid of in time
            if not self.over:
                release = await self.stream.fail(expiry.status, expiry.code, expiry.message)
                self.over = True
                await self._written(release)
        finally:
            self._turn.give()

    def keepalive(self) -> None:
        """Write a sign of life, unless something is just being written. Needs no turn: the hook that makes the client
        wait has it."""
        self._beside.start(self._stoppable, self._breathe)

    async def _breathe(self) -> None:
        if self._writing or self._breath is not None or self._closed:
            return
        if data := self.stream.keepalive():
            breath = self._breath = anyio.Event()
            try:
                await self._write(Release(items=((data, None),)), end=False)
            finally:
                self._breath = None
                breath.set()

    def close(self) -> None:
        """Give back what the stream lane holds. Nothing is written afterwards."""
        self.over = True
        self._halt()
        self.batches.close()
        self._write = _nobody  # it knows the lanes: what is over must not wait for a garbage collection

    # -- deciding: always under the lock -----------------------------------------------------------------------------

    def _is_direct(self) -> bool:
        return not (self._queued or self.over or self.broken)

    async def _decide(self, data: bytes, last: bool) -> None:
        coroutine = self.stream.feed(data, last=last)
        try:
            # By hand, because nearly no feed waits: see `suspension`.
            try:
                first = coroutine.send(None)
            except StopIteration as stop:
                release: Release = stop.value
            else:
                release = await self._waited(coroutine, first)
        except BaseException as error:
            # Cancelled or broken in the middle of a piece: what would follow has lost its place.
            self.broken = True
            if not must_travel(error):
                self.error = error
            raise
        if last:
            self._fed_last = True
        if self._fed_last or release.pending or release.done or self._settling or self._breath is not None:
            await self._emit(release)
        else:
            self._deadlines.holding = release.held > 0
            if release.items:
                self._writing = True
                try:
                    await self._write(release, end=False)
                finally:
                    self._writing = False

    async def _waited(self, coroutine: Coroutine[Any, Any, Release], first: object) -> Release:
        self._deadlines.waiting += 1
        self._wake()
        try:
            return await rest(coroutine, first)
        finally:
            self._deadlines.waiting -= 1

    async def _emit(self, release: Release) -> None:
        if release.done:
            self.over = True
        elif release.pending:
            self._settle_soon()
        if self._fed_last and (release.complete or not self._settling):
            self.over = True
            self.lingers = self._settling > 0 and not release.done
        self._deadlines.holding = release.held > 0 or self._settling > 0
        if release.items or self.over:
            await self._written(release)

    async def _written(self, release: Release) -> None:
        self._writing = True
        try:
            if self._breath is not None:
                await self._breath.wait()
            await self._write(release, end=self.over)
        finally:
            self._writing = False

    # -- the stream lane ---------------------------------------------------------------------------------------------

    def _settle_soon(self) -> None:
        self._settling += 1
        self._deadlines.waiting += 1
        self._wake()
        if not self._fed_last:
            self._queued = True
        self._beside.start(self._stoppable, self._settle)

    async def _enqueue(self, data: bytes, last: bool) -> None:
        if await self.batches.put(data, last=last) and not self._draining:
            self._draining = True
            self._beside.start(self._stoppable, self._drain)

    async def _drain(self) -> None:
        """Decide what waits, until nothing does any more."""
        idle = False
        while not self._closed:
            data, last = self.batches.taken()
            if data or last:
                idle = False
                await self._decide_in_turn(data, last)
            elif idle and not self.batches.busy:
                break
            else:
                idle = True
                await checkpoint()  # a sender that had to wait gets to say what comes next
        self._draining = False
        self._reopen()

    async def _decide_in_turn(self, data: bytes, last: bool) -> None:
        await self._turn.take()
        try:
            if not self._closed:
                await self._decide(data, last)
        finally:
            self._turn.give()

    def _reopen(self) -> None:
        """Let the direct lane take over again when nothing waits or is pending."""
        if self._queued and not self._draining and not self._settling:
            self._queued = False
            self.batches.close()

    async def _settle(self) -> None:
        try:
            await self.stream.decide_pending()
        finally:
            self._deadlines.waiting -= 1
        await self._turn.take()
        try:
            self._settling -= 1
            if not self._closed or self.lingers:
                await self._decide(b"", last=False)
        finally:
            self._turn.give()
        self._reopen()

    async def _stoppable(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task of the stream lane so that `_halt` can end it, and so that its error reaches the watcher."""
        task = self._beside.running()
        self._tasks.add(task)
        try:
            await work()
        except anyio.get_cancelled_exc_class() as error:
            # A hook has cancelled the task that it runs in; or all ends, and nobody looks.
            if not self._halted:
                self._broke(RuntimeError("the task that decides was cancelled"))
            if must_travel(error):
                raise
        except BaseException as error:
            if must_travel(error):
                raise
            self._broke(error)
        finally:
            self._tasks.discard(task)
            del task  # it keeps the error that it ends with, and that keeps this frame

    def _broke(self, error: BaseException) -> None:
        """Not swallowed: the watcher ends the answer, the shell raises it."""
        self.error, self.broken = error, True
        self._deadlines.broken = True
        self._wake()

    def _halt(self) -> None:
        self._halted = True
        for task in tuple(self._tasks):
            self._beside.stop(task)
