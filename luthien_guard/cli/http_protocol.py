"""uvicorn's HTTP, with four things more: an answer's head leaves with its first bytes, who does not read is left, so is who
never comes to the end of a request's head, and a body stays one where the request asks for another protocol."""

from __future__ import annotations

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from luthien_guard.cli.http_parser import Parser

__all__ = ["JoinedWrites", "Protocol"]

_HEAD: Final = b"HTTP/1.1 "
_LONGEST: Final = 64 * 1024  # bytes of a head, of trailers: without any of a body between them


class JoinedWrites:
    """An asyncio transport. What begins like a head waits for the next write, at most to the end of the loop's turn:
    written apart, the client wakes twice, the first time for nothing, and often on the core that has the first event in
    hand. `patience`: seconds in which a client that reads nothing is hung up on."""

    def __init__(self, transport: Any, loop: Any, patience: float) -> None:
        self._transport = transport
        self._loop = loop
        self._patience = patience
        self._head = b""
        self._unread = 0  # bytes, when it was looked last
        self._timer: Any = None

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """What is written already still leaves, as long as somebody reads it."""
        self._flush()
        if not self._transport.is_closing():
            self.expect_reading()
        self._transport.close()

    def expect_reading(self) -> None:
        """Hang up unless some of what waits leaves in time, again and again until none is left."""
        self.expect_nothing()
        self._unread = self._transport.get_write_buffer_size()
        if self._unread:
            self._timer = self._loop.call_later(self._patience, self._look)

    def expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _look(self) -> None:
        if self._transport.get_write_buffer_size() < self._unread:
            self.expect_reading()
        else:
            self._transport.abort()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class Protocol(HttpToolsProtocol):
    """uvicorn's, over such a transport. `arrival`: seconds in which the head of a request has to come, from the connection's
    beginning or the first byte after the answer before."""

    def __init__(self, *arguments: Any, patience: float, arrival: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.parser = Parser(self)
        self._patience = patience
        self._arrival = arrival
        self._joined: JoinedWrites | None = None
        self._awaited: Any = None  # the timer of a head
        self._size = 0  # bytes since the last head, or bytes of a body

    def connection_made(self, transport: Any) -> None:
        self._joined = JoinedWrites(transport, self.loop, self._patience)
        super().connection_made(self._joined)  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._await_nothing()
        if self._joined is not None:
            self._joined.expect_nothing()

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        super().data_received(data)
        if self._size > _LONGEST and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")
        elif self._awaited is None and not self._is_asked():
            self._await_head()

    def passes_over(self) -> bool:
        """The head that was just read asks for what is not spoken here: it is read once more."""
        return self.parser.should_upgrade() and not self._should_upgrade()

    def on_headers_complete(self) -> None:
        if self.passes_over():
            return
        self._size = 0
        self._await_nothing()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._size = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.passes_over():
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._joined is not None:
            self._joined.expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._joined is not None and not self._joined.is_closing():
            self._joined.expect_nothing()

    def _is_asked(self) -> bool:
        """There is a request, and its answer is not complete."""
        cycle: Any = self.cycle  # None before the first; uvicorn's types do not say so
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        self._awaited = self.loop.call_later(self._arrival, self._late)

    def _await_nothing(self) -> None:
        if self._awaited is not None:
            self._awaited.cancel()
            self._awaited = None

    def _late(self) -> None:
        self._awaited = None
        if not self._is_asked():
            self.transport.abort()
