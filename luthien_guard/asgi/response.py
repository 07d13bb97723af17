"""The application's `send` on a guarded route: nothing that it says reaches the client undecided."""

from __future__ import annotations

from typing import Any, Final

from anyio.lowlevel import checkpoint

from luthien_guard.asgi.encoding import Decoder, decoder_for, layers
from luthien_guard.asgi.endings import GONE, refused
from luthien_guard.asgi.headers import first, started, values
from luthien_guard.asgi.outlet import WatchedOutlet
from luthien_guard.asgi.outward import NO_BODY, of_error, of_nothing, outward
from luthien_guard.asgi.sniff import is_event_stream, says_event_stream
from luthien_guard.asgi.types import Headers, Message
from luthien_guard.control_plane.service import Answer, Release, StreamingContext
from luthien_guard.errors import WireError
from luthien_guard.pipeline import Expiry, Lanes

__all__ = ["Response"]

#: Seconds between two messages of an application that has not waited for anything in between.
BREATH: Final = 0.000_1
#: So many messages in one breath are worth a task that takes the next ones together.
HURRY: Final = 4


class Response:
    """One attempt at an answer, decided piece by piece."""

    __slots__ = (
        "_attempt",
        "_decoder",
        "_dropped",
        "_head",
        "_headers",
        "_hurry",
        "_outlet",
        "_status",
        "_stream",
        "_unread",
        "began",
        "finished",
        "lanes",
        "retry",
    )

    def __init__(self, outlet: WatchedOutlet, attempt: int) -> None:
        self.lanes: Lanes | None = None
        self.retry: bytes | None = None
        self.began = False
        self.finished = False
        self._outlet = outlet
        self._attempt = attempt
        self._status = 502  # until the application says another
        self._headers: Headers = ()
        self._decoder: Decoder | None = None
        self._head: list[bytes] = []  # bytes that do not yet say what the body is
        self._dropped = False  # it had a body where there is none
        self._stream = False
        self._unread = False  # nobody can read it, and nobody has to
        self._hurry = 0  # messages in one breath

    async def send(self, message: Message) -> None:
        """What the application calls. Refuses messages that go around the body."""
        kind = message["type"]
        if kind == "http.response.body":
            lanes, outlet = self.lanes, self._outlet
            if not self.began:
                raise RuntimeError("http.response.body before http.response.start")
            if (self.finished or outlet.client.gone or (lanes and lanes.over)) and await self._is_deaf():
                return
            data, last = message.get("body", b""), not message.get("more_body", False)
            if type(data) is not bytes:
                data = _as_bytes(data)
            if lanes is not None and not last and self._decoder is None and lanes.batches.takes(data):
                outlet.deadlines.heard = outlet.now()
                return
            # a clock that tests move stands still
            in_one_breath = 0.0 < outlet.now() - outlet.deadlines.heard < BREATH
            self._hurry = self._hurry + 1 if in_one_breath else 0
            await self._heard(data, last)
        elif kind == "http.response.start":
            self._start(message)
        else:
            self._outlet.plane.record(self._outlet.call_id, "message.refused", {"message": str(kind)})
            raise RuntimeError(f"{kind} goes around the body of a guarded response")

    async def _heard(self, data: bytes, last: bool) -> None:
        lanes, deadlines = self.lanes, self._outlet.deadlines
        self.finished = last
        deadlines.upstream = False
        try:
            if lanes is None or self._decoder is not None:
                await self._take(data, last)
            elif data or last:
                await lanes.feed(data, last=last, hurried=self._hurry >= HURRY)
                if lanes.over and not last:
                    await checkpoint()  # where the cancellation arrives
        finally:
            deadlines.heard = self._outlet.now()
            deadlines.upstream = not last

    async def fail(self, expiry: Expiry) -> None:
        """End the answer in-band, or with an error of its own while nothing has left."""
        if self._unread:
            return await self._outlet.cut(expiry)
        if self.lanes is None:
            self._status, self._headers = expiry.status, ()
            await self._open(stream=self._outlet.client.started)
        assert self.lanes is not None
        return await self.lanes.fail(expiry)

    # ------------------------------------------------------------------------------------------------------------------

    async def _is_deaf(self) -> bool:
        """True when what comes now has no place to go; ends an application that goes on all the same."""
        client = self._outlet.client
        if client.gone and self._outlet.raises:
            raise OSError("the client has disconnected")
        if self.finished and not client.gone:
            raise RuntimeError("http.response.body after the end of the body")
        await checkpoint()  # the answer was ended from here: this is where the cancellation arrives
        return True

    def _start(self, message: Message) -> None:
        if self.began:
            raise RuntimeError("http.response.start twice")
        self._status, self._headers = started(message)
        self.began = True
        self._outlet.deadlines.heard = self._outlet.now()
        self._outlet.deadlines.upstream = True

    async def _take(self, data: bytes, last: bool) -> None:
        """Bytes that are not plainly the next piece: the first ones, or encoded ones."""
        if self._unread:
            await self._pass(data, last)
        elif self.lanes is None:
            await self._take_first(data, last)
        else:
            try:
                data = self._decoded(data, last)
            except WireError as error:
                return await self._uninspectable(error)
            if data or last:
                await self.lanes.feed(data, last=last)
        if not last and self.lanes is not None and self.lanes.over:
            await checkpoint()
        return None

    async def _take_first(self, data: bytes, last: bool) -> None:
        client = self._outlet.client
        if client.bodiless or client.preflight or self._status in NO_BODY:
            return await self._take_nothing(data, last)
        try:
            if not self._head and self._decoder is None:
                self._decoder = decoder_for(layers(values(self._headers, b"content-encoding")))
        except WireError as error:
            if self._outlet.enforces:
                return await self._uninspectable(error)
            return await self._pass_unread(data, last, str(error))
        try:
            self._head.append(self._decoded(data, last))
        except WireError as error:
            return await self._uninspectable(error)
        head = b"".join(self._head)
        stream = is_event_stream(
            head, labelled=says_event_stream(first(self._headers, b"content-type")), last=last
        )
        if stream is None:
            self._head = [head]
            return None
        self._head = []
        if self._outlet.client.started and not stream:
            message = f"another attempt was answered with status {self._status} and no stream"
            return await self._give_up(Expiry(502, "upstream_error", message))
        lanes = await self._open(stream=stream)
        if head or last:
            await lanes.feed(head, last=last)
        return None

    async def _pass_unread(self, data: bytes, last: bool, reason: str) -> None:
        """Who only observes does not stand in the way of what cannot be observed."""
        self._unread = True
        self._outlet.plane.record(
            self._outlet.call_id, "body.unread", {"status": self._status, "reason": reason}
        )
        await self._outlet.client.begin(self._status, self._headers)
        await self._pass(data, last)

    async def _pass(self, data: bytes, last: bool) -> None:
        client = self._outlet.client
        await client.write(data, end=last)
        self._outlet.deadlines.told = self._outlet.now()
        if last:
            await self._outlet.close(GONE if client.gone else refused(self._status))

    async def _take_nothing(self, data: bytes, last: bool) -> None:
        """HEAD, OPTIONS, 204, 304: headers only. A body here is one that nobody may see."""
        client = self._outlet.client
        if data and not client.bodiless and not self._dropped:
            self._dropped = True
            self._outlet.plane.record(self._outlet.call_id, "body.dropped", {"status": self._status})
        if last and not client.started:
            headers = of_nothing(self._headers, self._status, preflight=client.preflight)
            await client.begin(self._status, headers)
            await client.write(b"", end=True)
            await self._outlet.close(GONE if client.gone else refused(self._status))

    def _decoded(self, data: bytes, last: bool) -> bytes:
        if self._decoder is None:
            return data
        decoded = self._decoder.feed(data, self._outlet.limits.max_response_bytes) if data else b""
        if last:
            self._decoder.close()
        return decoded

    async def _uninspectable(self, error: WireError) -> None:
        message = f"the answer cannot be inspected: {error}"
        await self._give_up(Expiry(502, "uninspectable_response", message))

    async def _give_up(self, expiry: Expiry) -> None:
        self.finished = False  # whatever else the application has to say is not heard
        await self.fail(expiry)
        self._outlet.cancel()
        await checkpoint()

    async def _open(self, *, stream: bool) -> Lanes:
        outlet = self._outlet
        self._stream = stream
        context = StreamingContext(outlet.call_id, outlet.wire_format, self._status, stream, self._attempt)
        opened = await outlet.plane.open_stream(context)
        self.lanes = Lanes(
            opened,
            self._write,
            beside=outlet.beside,
            deadlines=outlet.deadlines,
            wake=outlet.wake,
        )
        return self.lanes

    async def _write(self, release: Release, *, end: bool) -> None:
        outlet, client = self._outlet, self._outlet.client
        if not end and client.started:
            await client.write(release.data, end=False)
            outlet.deadlines.told = outlet.now()
            return
        if release.retry is not None:
            self.retry = release.retry
            outlet.cancel()
            return
        if release.answer is not None:
            await client.answer(release.answer, self._still_true(release.answer))
        else:
            data = release.data
            if not client.started:
                made = any(source is None for _, source in release.items)
                length = len(data) if end else None
                headers = outward(self._headers, stream=self._stream, made=made, length=length)
                await client.begin(self._status, headers)
            await client.write(data, end=end)
        outlet.deadlines.told = outlet.now()
        if end and not (self.lanes is not None and self.lanes.lingers):
            await outlet.close(GONE if client.gone else None)
            if not self.finished:
                outlet.cancel()

    def _still_true(self, answer: Answer) -> Headers:
        """Of the application's headers, where the guard says its error in other words."""
        if answer.status != self._status or answer.status < 400:
            return ()
        return of_error(self._headers)


def _as_bytes(body: Any) -> bytes:
    """Applications send whatever their server takes. Not `bytes(body)`, which makes a number that many zeros."""
    return b"" if body is None else memoryview(body).tobytes()
