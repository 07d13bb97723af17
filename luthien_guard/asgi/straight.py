"""The application's `send` where no policy looks at the answer."""

from __future__ import annotations

from collections.abc import Awaitable

from anyio.lowlevel import checkpoint

from luthien_guard.asgi.endings import GONE, refused
from luthien_guard.asgi.headers import first, started
from luthien_guard.asgi.outlet import Outlet
from luthien_guard.asgi.sniff import says_event_stream
from luthien_guard.asgi.types import Headers, Message, Send
from luthien_guard.pipeline import Expiry, Lanes
from luthien_guard.wire.formats import FORMATS

__all__ = ["Straight"]


class Straight:
    """An answer that no policy looks at: its messages go through as they are."""

    __slots__ = ("_client", "_headers", "_outlet", "_status", "began", "finished")

    # Nobody is asked about it, and so nobody asks for another one.
    lanes: Lanes | None = None
    retry: bytes | None = None

    def __init__(self, outlet: Outlet) -> None:
        self.began = False
        self.finished = False
        self._outlet = outlet
        self._client = outlet.client
        self._status = 0
        self._headers: Headers = ()

    @property
    def send(self) -> Send:
        """What the application calls. Pieces of the body are the server's to await: no step of ours is between. (Made anew
        each time: kept here, it would be a cycle.)"""
        client, send = self._client, self._client.send

        def straight(message: Message) -> Awaitable[None]:
            return send(message) if client.open and message.get("more_body") else self._told(message)

        return straight

    def _told(self, message: Message) -> Awaitable[None]:
        if message["type"] != "http.response.body":
            self._begins(message)
            return self._client.begin(self._status, self._headers)
        data = message.get("body", b"")
        return self._write(data) if message.get("more_body", False) else self._end(data)

    def _begins(self, message: Message) -> None:
        client = self._client
        if client.gone:
            self._tell_gone()
        if message["type"] != "http.response.start":
            raise RuntimeError(f"{message['type']} goes around the body of a guarded response")
        self._status, self._headers = started(message)
        self.began = True

    async def _write(self, data: bytes) -> None:
        """To nobody it takes no time: an application that never waits for anything else is ended here."""
        if self._client.gone:
            self._tell_gone()
        if self._client.gone or self._client.finished:
            await checkpoint()
        else:
            await self._client.write(data, end=False)

    async def _end(self, data: bytes) -> None:
        client = self._client
        if client.gone:
            self._tell_gone()
        self.finished = True
        await client.write(data, end=True)
        await self._outlet.close(GONE if client.gone else refused(self._status))

    def _tell_gone(self) -> None:
        if self._outlet.raises:
            raise OSError("the client has disconnected")

    async def fail(self, expiry: Expiry) -> None:
        await self._outlet.cut(expiry, self._error_event(expiry))

    def _error_event(self, expiry: Expiry) -> bytes:
        """What tells a stream's client that this was not the end. The blank line ends an event that was cut."""
        if not says_event_stream(first(self._headers, b"content-type")):
            return b""
        writer = FORMATS[self._outlet.wire_format].writer(stream=True, model="", call_id=self._outlet.call_id)
        return b"\n\n" + writer.fail(expiry.status, expiry.code, expiry.message)
