"""The client's end of an exchange: what has been said to it, and whether it is still there."""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from luthien_guard.asgi.types import Message, Receive, Send
from luthien_guard.control_plane.service import Answer

__all__ = ["Client"]


class Client:
    """Writes one response to the server. Outlives the attempts that make it."""

    __slots__ = (
        "_call_id",
        "bodiless",
        "body",
        "finished",
        "gone",
        "hurried",
        "open",
        "preflight",
        "receive",
        "refused",
        "send",
        "started",
    )

    def __init__(self, receive: Receive, send: Send, call_id: str, *, method: str = "POST") -> None:
        self.receive = receive  # the server's own
        self.body: bytes | None = None  # for who `hear`s
        self.started = False
        self.open = False  # pieces of the body go to the server as they are
        # Set before the last message is sent: the server may report a disconnect within it.
        self.finished = False
        self.gone = False
        self.hurried = False  # the server ends: nobody waits until it takes something
        self.refused = False  # the server has raised something else than that nobody listens
        self.send = send  # the server's own
        self._call_id = call_id
        self.bodiless = method == "HEAD"
        self.preflight = method == "OPTIONS"  # what it asks is answered by headers

    async def hear(self) -> Message:
        """The application's `receive` where nothing is watched: the whole body once, then the server's own."""
        if self.body is not None:
            body, self.body = self.body, None
            return {"type": "http.request", "body": body, "more_body": False}
        message = await self.receive()
        if message["type"] == "http.disconnect" and not self.finished:
            self.leave()
        return message

    def leave(self) -> None:
        """Nobody listens any more."""
        self.gone, self.open = True, False

    def _refuse(self) -> None:
        self.refused, self.open = True, False

    async def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send status and headers, with the exchange's id."""
        if self.gone or self.finished:
            return
        self.started, self.open = True, not self.bodiless
        kept = [pair for pair in headers if pair[0] != b"x-luthien-call-id"]
        kept.append((b"x-luthien-call-id", self._call_id.encode()))
        try:
            await self.send({"type": "http.response.start", "status": status, "headers": kept})
        except OSError:
            self.leave()
        except Exception:
            self._refuse()
            raise

    async def write(self, data: bytes, *, end: bool) -> None:
        """Send body bytes; nothing after `end`."""
        if self.finished or self.gone:
            return
        self.finished, self.open = end, self.open and not end
        body = b"" if self.bodiless else data
        try:
            message = {"type": "http.response.body", "body": body, "more_body": not end}
            await (self._at_once(message) if self.hurried else self.send(message))
        except OSError:  # what servers of ASGI 2.4 and later raise when nobody listens any more
            self.leave()
        except Exception:
            self._refuse()
            raise

    async def _at_once(self, message: Message) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await self.send(message)

    async def answer(self, answer: Answer, further: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send a whole answer, with `further` headers; if the response has begun, as much of it as an SSE client can
        take."""
        if self.finished:
            return
        if self.started:
            await self.write(_as_events(answer), end=True)
            return
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers
        ]
        headers += further
        headers.append((b"content-type", answer.content_type.encode("latin-1")))
        headers.append((b"content-length", b"%d" % len(answer.body)))
        await self.begin(answer.status, headers)
        await self.write(answer.body, end=True)


def _as_events(answer: Answer) -> bytes:
    if answer.content_type.startswith("text/event-stream"):
        return answer.body
    return b"event: error\ndata: " + answer.body.replace(b"\n", b" ") + b"\n\n"
