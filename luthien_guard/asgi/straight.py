"""The application's `send` where no policy looks at the answer."""

from __future__ import annotations

from collections.abc import Awaitable

from anyio.lowlevel import checkpoint

from luthien_guard.asgi.endings import GONE, refused
from luthien_guard.asgi.headers import first, started
from luthien_guard.asgi.outlet import Outlet
from luthien_guard.asgi.sniff import says_event_stream
from luthien_guard.asgi.types import Message
from luthien_guard.pipeline import Expiry, Lanes
from luthien_guard.wire.formats import FORMATS

__all__ = ["Straight"]


class Straight:
    """An answer that no policy looks at: its messages go through as they are."""

    __slots__ = ("_client", "_label", "_open", "_outlet", "_status", "began", "finished", "lanes", "retry")

    def __init__(self, outlet: Outlet) -> None:
        self.lanes: Lanes | None = None
        self.retry: bytes | None = None
        self.began = False
        self.finished = False
        self._outlet = outlet
        self._client = outlet.client
        self._status = 0
        self._open = False  # pieces of the body may go to the server
        self._label = b""  # the content type

    def send(self, message: Message) -> Awaitable[None]:
        """What the application calls. Pieces of the body are the server's to await: no step of ours is between."""
        if self._open and message["type"] == "http.response.body" and message.get("more_body", False):
            client = self._client
            if not (client.gone or client.finished):
                return client.send(message)
        return self._send(message)

    async def _send(self, message: Message) -> None:
        client = self._client
        if client.gone and self._outlet.raises:
            raise OSError("the client has disconnected")
        kind = message["type"]
        if kind == "http.response.start":
            self._status, headers = started(message)
            self._label = first(headers, b"content-type")
            self.began = True
            await client.begin(self._status, headers)
            self._open = not client.bodiless
        elif kind == "http.response.body":
            if message.get("more_body", False):
                return await self._write(message.get("body", b""))
            self.finished = True
            await client.write(message.get("body", b""), end=True)
            await self._outlet.close(GONE if client.gone else refused(self._status))
        else:
            raise RuntimeError(f"{kind} goes around the body of a guarded response")
        return None

    async def _write(self, data: bytes) -> None:
        """To nobody it takes no time: an application that never waits for anything else is ended here."""
        if self._client.gone or self._client.finished:
            await checkpoint()
        else:
            await self._client.write(data, end=False)

    async def fail(self, expiry: Expiry) -> None:
        await self._outlet.cut(expiry, self._error_event(expiry))

    def _error_event(self, expiry: Expiry) -> bytes:
        """What tells a stream's client that this was not the end. The blank line ends an event that was cut."""
        if not says_event_stream(self._label):
            return b""
        writer = FORMATS[self._outlet.wire_format].writer(stream=True, model="", call_id=self._outlet.call_id)
        return b"\n\n" + writer.fail(expiry.status, expiry.code, expiry.message)
