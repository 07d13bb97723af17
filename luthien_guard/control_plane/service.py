"""The seam: what a shell (middleware, client) asks and what it gets, all of it serialisable.

A shell moves bytes and knows its host; it never sees a policy, an event or a wire format's inside. Everything that
crosses is a dataclass of plain values (bytes, str, numbers, tuples), so that the other side may be another
process. The order for one exchange:

    decide_request -> open_stream -> feed* (settle* while verdicts are pending) -> close

`close` is called exactly once for each `decide_request`, whatever happened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from luthien_guard.exchange import Outcome, RequestMetadata

__all__ = [
    "Answer",
    "ControlPlaneService",
    "GuardedStream",
    "PolicyResult",
    "Release",
    "RequestDecision",
    "StreamingContext",
]

T = TypeVar("T")
_nothing: Callable[[], dict[str, Any]] = dict  # `dict[str, Any]` takes ten times as long to call


# Like a `Release`, these two are not frozen: every request pays for it.
@dataclass(slots=True)
class PolicyResult(Generic[T]):
    """A decision: the value to go on with, whether it was allowed, and who says why."""

    value: T
    allowed: bool = True
    reason: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer made by the guard: a refusal or an error, in the client's wire format."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class RequestDecision:
    """What to do with a request: send `body` upstream, or answer with `answer` and send nothing."""

    body: bytes
    answer: Answer | None = None
    model: str = ""
    stream: bool = False
    #: False when no policy looks at the response and nothing has to be recorded of it: bytes may go straight through.
    covers_response: bool = True
    #: False when nothing that is said about the response has an effect on it: what cannot be read may pass unread.
    enforces: bool = True
    #: True when `close` does nothing that waits, so that it need not be bounded or shielded.
    ends_at_once: bool = False


@dataclass(frozen=True, slots=True)
class StreamingContext:
    """What the shell knows when the response's head is there. `stream`: the body is SSE."""

    call_id: str
    wire_format: str
    status: int
    stream: bool
    attempt: int = 0  # counts the retries of this exchange


# Not frozen: one is made for every piece, and freezing would cost as much as deciding it.
@dataclass(slots=True)
class Release:
    """What may leave now. An empty release says: nothing yet, go on."""

    #: Bytes in order; the number is that of the fed chunk that leaves exactly as it came, None for anything else.
    items: tuple[tuple[bytes, int | None], ...] = ()
    #: Verdicts that wait for somebody: call `settle()` once (in a task of its own) when this is not 0.
    pending: int = 0
    #: So many of them have no say in the answer, which need not wait for them.
    aside: int = 0
    #: The answer is complete: send nothing after `items`, close upstream. What is fed later is ignored.
    done: bool = False
    #: All of the answer has left with `items`: what is still pending has no say in it. Feed nothing but b"" then.
    complete: bool = False
    #: Instead of what came: this answer, possible only while nothing has been released. Implies `done`.
    answer: Answer | None = None
    #: Ask again, with this request body; possible only while nothing has been released. Implies `done`.
    retry: bytes | None = None
    #: Bytes that policies keep back now.
    held: int = 0
    #: Where the text of the chunk fed last stands in its JSON, if more of that may be fed alone (`feed_text`).
    alike: tuple[str | int, ...] | None = None

    @property
    def data(self) -> bytes:
        items = self.items
        return items[0][0] if len(items) == 1 else b"".join([raw for raw, _ in items])


class GuardedStream(Protocol):
    """One response (one attempt) under decision. Calls of `feed` come one at a time, in order; `settle` may run
    beside them, several at once."""

    async def feed(self, data: bytes, *, last: bool = False) -> Release:
        """The next bytes of the body, cut anywhere; `last` with the final (maybe empty) piece. Never raises for
        anything that the bytes say."""
        ...

    def feed_text(self, text: str) -> str | Coroutine[Any, Any, str | Release]:
        """`feed` for a chunk that differs from the one before in its text alone, where the release of that one was `alike`:
        what leaves of the text, and the same may be said of the next chunk; or a release, as `feed` gives it. To be awaited
        only where somebody has to be waited for. No text is "" here, and all of it is printable."""
        ...

    async def settle(self) -> Release:
        """Run the verdicts that are pending now, concurrently, and release what they free. Returns an empty release
        at once when another `settle` took them."""
        ...

    def decide_pending(self) -> Awaitable[None]:
        """Run the verdicts that are pending now and release nothing: for a shell that goes on feeding beside them.
        What they freed comes with the next `feed`, which may be empty. (The releases of a `settle` and of a `feed`
        that overlap have no order between them: either may have been taken first.)"""
        ...

    async def fail(self, status: int, code: str, message: str) -> Release:
        """Upstream failed (cut, timeout, exception) or a deadline passed: end the answer in-band, or with an
        `answer` when nothing was released yet. `code` becomes part of the outcome."""
        ...

    def keepalive(self) -> bytes:
        """A legal nothing for a client that waits; b"" where there is none (not SSE). Ask only to send it: the answer
        counts as begun afterwards (no `answer`; a `retry` has to be answered with a stream, too)."""
        ...

    def overdue(self) -> str | None:
        """Says which hook has run past its deadline, if one has: the shell then cancels and calls `fail`."""
        ...


class ControlPlaneService(Protocol):
    """Decides. `LocalControlPlane` calls the engine in this process."""

    async def decide_request(
        self, metadata: RequestMetadata, wire_format: str, body: bytes
    ) -> PolicyResult[RequestDecision]:
        """Read the request and run the request hooks. A malformed body is an `answer`, never an exception."""
        ...

    async def open_stream(self, context: StreamingContext) -> GuardedStream:
        """Begin the response of a decided request."""
        ...

    async def close(self, call_id: str, outcome: Outcome | None = None) -> Outcome:
        """End the exchange and its record. `outcome` is what the shell saw (cancelled, timeout, upstream_error); None
        leaves it to what was decided. Returns the outcome that was recorded."""
        ...

    def record(self, call_id: str, event: str, details: Mapping[str, Any]) -> None:
        """Put a fact that only the shell knows into the record (a refused path, a dropped header)."""
        ...

    def publish(self, call_id: str, activity: Mapping[str, Any]) -> None:
        """Show an activity to whoever watches; may be dropped."""
        ...

    def reject(
        self, metadata: RequestMetadata, wire_format: str, status: int, code: str, message: str
    ) -> Answer:
        """An answer in the wire format for a request that the shell itself refuses (too large, wrong encoding, a
        path that is not canonical), recorded with the reason."""
        ...
