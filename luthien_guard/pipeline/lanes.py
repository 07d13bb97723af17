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
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from luthien_guard.control_plane.service import GuardedStream, Release
from luthien_guard.engine.suspension import Rest
from luthien_guard.pipeline.deadlines import Deadlines, Expiry
from luthien_guard.pipeline.turn import Turn

__all__ = ["Lanes", "Write"]

#: Pieces that may wait in the stream lane before the application has to.
CAPACITY = 32

Piece = tuple[bytes, bool]


class Write(Protocol):
    """Takes a release to the client; `end`: nothing comes after it. Called one at a time, in order."""

    def __call__(self, release: Release, *, end: bool) -> Awaitable[None]: ...


class Lanes:
    """One `GuardedStream` between an application that sends and a client that gets."""

    __slots__ = (
        "_breath",
        "_deadlines",
        "_fed_last",
        "_queue",
        "_queued",
        "_scopes",
        "_settling",
        "_spawn",
        "_turn",
        "_wake",
        "_write",
        "_writing",
        "broken",
        "error",
        "over",
        "stream",
    )

    def __init__(
        self,
        stream: GuardedStream,
        write: Write,
        *,
        spawn: Callable[..., object],
        deadlines: Deadlines,
        wake: Callable[[], None],
    ) -> None:
        self.stream = stream
        self.over = False  # the last byte was written, or may not be written any more
        self.error: Exception | None = None  # what broke the stream lane
        self.broken = False  # a feed did not finish: only `fail` may end the answer
        self._write = write
        self._spawn = spawn  # a task group's `start_soon`
        self._deadlines = deadlines
        self._wake = wake  # the watcher has something new to look at
        self._turn = Turn()
        self._queued = False  # the stream lane is open
        self._settling = 0
        self._fed_last = False
        self._writing = False
        self._breath: anyio.Event | None = None  # a keep-alive on its way
        self._queue: tuple[MemoryObjectSendStream[Piece], MemoryObjectReceiveStream[Piece]] | None = None
        self._scopes: set[anyio.CancelScope] = set()

    @property
    def _closed(self) -> bool:
        return self.over or self.broken

    @property
    def queued(self) -> bool:
        """True while pieces go through the stream lane."""
        return self._queued

    async def feed(self, data: bytes, *, last: bool) -> None:
        """The next piece from the application. Returns when it may send the next one."""
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
        """End the answer for a reason that is not the policies'. Halts the stream lane first."""
        self._halt()
        await self._turn.take()
        try:
            if not self.over:
                release = await self.stream.fail(expiry.status, expiry.code, expiry.message)
                self.over = True
                await self._written(release)
        finally:
            self._turn.give()

    async def keepalive(self) -> None:
        """A sign of life, unless something is just being written. Needs no turn: the hook that makes the client
        wait has it."""
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
        if self._queue is not None:
            for end in self._queue:
                end.close()

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
        except BaseException:
            # Cancelled or broken in the middle of a piece: what would follow has lost its place.
            self.broken = True
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
            return await Rest(coroutine, first)
        finally:
            self._deadlines.waiting -= 1

    async def _emit(self, release: Release) -> None:
        if release.done:
            self.over = True
        elif release.pending:
            self._settle_soon()
        if self._fed_last and not self._settling:
            self.over = True
        self._deadlines.holding = release.held > 0 or self._settling > 0
        if release.items or self.over:
            await self._written(release)

    async def _written(self, release: Release) -> None:
        if self._breath is not None:
            await self._breath.wait()
        self._writing = True
        try:
            await self._write(release, end=self.over)
        finally:
            self._writing = False

    # -- the stream lane ---------------------------------------------------------------------------------------------

    def _settle_soon(self) -> None:
        self._settling += 1
        self._deadlines.waiting += 1
        self._wake()
        if not self._queued and not self._fed_last:
            self._queued = True
            self._spawn(self._scoped, self._drain)
        self._spawn(self._scoped, self._settle)

    async def _enqueue(self, data: bytes, last: bool) -> None:
        inlet = self._ends()[0]
        try:
            try:
                inlet.send_nowait((data, last))
            except anyio.WouldBlock:
                await inlet.send((data, last))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # the answer ended while the application was waiting: what it says now goes nowhere

    def _ends(self) -> tuple[MemoryObjectSendStream[Piece], MemoryObjectReceiveStream[Piece]]:
        if self._queue is None:
            self._queue = anyio.create_memory_object_stream[Piece](CAPACITY)
        return self._queue

    async def _drain(self) -> None:
        outlet = self._ends()[1]
        while not self._closed and self._queued:
            piece = _joined(await outlet.receive(), outlet)
            await self._turn.take()
            try:
                if not self._closed:
                    await self._drained(*piece)
            finally:
                self._turn.give()

    async def _drained(self, data: bytes, last: bool) -> None:
        if data or last:
            await self._decide(data, last)
        state = self._ends()[1].statistics()
        idle = not state.current_buffer_used and not state.tasks_waiting_send
        if self._fed_last or (idle and not self._settling):
            self._queued = False  # the direct lane is open again, or nothing comes any more

    async def _settle(self) -> None:
        try:
            await self.stream.decide_pending()
        finally:
            self._deadlines.waiting -= 1
        await self._turn.take()
        try:
            self._settling -= 1
            if not self._closed:
                await self._decide(b"", last=False)
        finally:
            self._turn.give()
        self._nudge()

    def _nudge(self) -> None:
        """Let the lane task see that nothing is pending any more; when the queue is full it sees so anyway."""
        if self._queued and not self._settling:
            try:
                self._ends()[0].send_nowait((b"", False))
            except (anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    async def _scoped(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task of the stream lane so that `_halt` can end it, and so that its error reaches the watcher."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - not swallowed: the watcher ends the answer, the shell raises it
                self.error, self.broken = error, True
                self._deadlines.broken = True
                self._wake()
            finally:
                self._scopes.discard(scope)

    def _halt(self) -> None:
        for scope in tuple(self._scopes):
            scope.cancel()


def _joined(first: Piece, outlet: MemoryObjectReceiveStream[Piece]) -> Piece:
    """Everything that waits now as one piece: a batch costs one decision and one write."""
    (data, last), more = first, list[bytes]()
    while not last:
        try:
            piece, last = outlet.receive_nowait()
        except (anyio.WouldBlock, anyio.EndOfStream):
            break
        more.append(piece)
    return (b"".join([data, *more]) if more else data), last
