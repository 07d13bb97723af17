"""A guarded stream: what litellm yields, as far as the policies let it."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from typing import Any

from luthien_guard.client.exchange import CLOSED_EARLY, ClientExchange, frames
from luthien_guard.client.litellm_api import PROVIDER, litellm
from luthien_guard.client.watch import watched
from luthien_guard.control_plane.service import Answer, GuardedStream, Release
from luthien_guard.pipeline import OutOfTime, in_time

__all__ = ["GuardedIterator"]


class GuardedIterator:
    """Async iterator over litellm's chunks. No task runs beside it: everything happens while somebody asks for the
    next chunk, so nothing is left behind when nobody does. `aclose()` ends the exchange early; leaving the iterator to
    the garbage collector is a ResourceWarning. Raises what litellm raises, litellm's Timeout when upstream is silent
    for too long, and PolicyViolation where the caller wants blocks as exceptions."""

    def __init__(self, exchange: ClientExchange, inner: Any) -> None:
        self._exchange = exchange
        self._inner = inner
        self._guarded: GuardedStream | None = exchange.stream
        self._ready: deque[Any] = deque()
        self._originals: dict[int, Any] = {}  # by the number of the chunk, until it is decided
        self._count = 0
        self._like: Any = None  # the last chunk that came: made ones carry its notes
        self._said = b""  # its JSON
        self._over = False
        self._busy = False
        self.chunks: list[Any] = []  # as they left: litellm's own list is of what came
        if inner is None:  # nobody was asked
            self.model = exchange.model
            self.custom_llm_provider = PROVIDER
            self._hidden_params: dict[str, Any] = {}

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        if self._busy:
            raise RuntimeError("the stream is already being read by another task")
        self._busy = True
        try:
            while not self._ready:
                if self._over:
                    await self._heard_all()
                    await self._exchange.close_or_raise()
                    raise StopAsyncIteration
                await self._pull()
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self._over = True
            self._retell(error)
            await self._close_inner()
            await self._exchange.failed(error)
            raise
        finally:
            self._busy = False
        chunk = self._ready.popleft()
        self.chunks.append(chunk)
        return chunk

    async def aclose(self) -> None:
        """Close upstream and the exchange; what is still held is never seen. Idempotent."""
        self._over = True
        self._ready.clear()
        await self._close_inner()
        await self._exchange.close(CLOSED_EARLY)

    def __del__(self) -> None:
        exchange: ClientExchange | None = self.__dict__.get("_exchange")
        if exchange is None or exchange.closed:
            return
        warnings.warn(
            f"a guarded stream was not closed: {exchange.call_id}", ResourceWarning, stacklevel=2, source=self
        )
        _close_unheard(exchange)

    def _retell(self, error: Any) -> None:
        """litellm's exception quotes what it has heard, for who wants to go on from there: that is what has left."""
        if self._guarded is not None and hasattr(error, "generated_content"):
            error.generated_content = self._exchange.dialect.text(self.chunks)

    # -- one step ------------------------------------------------------------------------------------------------------

    async def _pull(self) -> None:
        """Ask upstream for its next chunk and the guard for what may leave."""
        try:
            chunk = await self._next_chunk()
        except StopAsyncIteration:
            self._over = True
            if self._guarded is not None:
                await self._take(await self._feed(self._guarded, b"", last=True))
            return
        if self._guarded is None:
            self._ready.append(chunk)
        else:
            self._originals[self._count] = self._like = chunk
            self._count += 1
            await self._take(await self._feed(self._guarded, self._frame(chunk), last=False))

    async def _next_chunk(self) -> Any:
        exchange = self._exchange
        try:
            return await in_time(exchange.clock, exchange.wake_at(), _next(self._inner))
        except OutOfTime:
            raise await exchange.silent() from None

    def _frame(self, chunk: Any) -> bytes:
        if isinstance(chunk, (bytes, str)):
            return chunk.encode() if isinstance(chunk, str) else chunk
        self._said = self._exchange.dialect.json(chunk)
        return b"data: " + self._said + b"\n\n"

    async def _feed(self, guarded: GuardedStream, raw: bytes, *, last: bool) -> Release:
        if not self._exchange.watched:
            return await guarded.feed(raw, last=last)
        return await watched(guarded, lambda: guarded.feed(raw, last=last))

    async def _take(self, release: Release) -> None:
        """Make what was released ready, wait for verdicts that are pending, follow a retry."""
        guarded = self._guarded
        while True:
            if release.retry is not None:
                await self._again(release.retry)
                return
            if release.done:
                await self._done(release)
                return
            if release.items:
                self._ready.extend(self._chunks(release.items))
            if not release.held:
                self._originals.clear()
            if release.pending == release.aside or guarded is None:
                return
            release = await watched(guarded, guarded.settle)

    async def _heard_all(self) -> None:
        """The caller has everything: those who only look on say what they have to say."""
        guarded = self._guarded
        while guarded is not None and not self._exchange.closed:
            release = await watched(guarded, guarded.settle)
            if not release.pending:
                break

    async def _done(self, release: Release) -> None:
        """The guard ended the answer."""
        self._over = True
        await self._close_inner()
        if self._exchange.raises or release.answer is not None:
            await self._exchange.close_or_raise(release.answer)
        if release.answer is not None:
            self._ready.extend(self._chunks(((release.answer.body, None),)))
        self._ready.extend(self._chunks(release.items))

    def _chunks(self, items: tuple[tuple[bytes, int | None], ...]) -> Iterator[Any]:
        if isinstance(self._like, (bytes, str)) or (self._like is None and self._exchange.dialect.of_bytes):
            yield from (raw for raw, _ in items if raw)
            return
        for raw, source in items:
            original = None if source is None else self._originals.pop(source, None)
            if original is not None:
                yield original
            else:
                yield from self._made(raw)

    def _made(self, raw: bytes) -> Iterator[Any]:
        """litellm's objects for frames that the guard wrote."""
        exchange = self._exchange
        for data in frames(raw):
            if exchange.dialect.wire_format == "openai.chat" and not data.get("choices"):
                if "error" in data:
                    raise litellm().APIError(502, str(data["error"].get("message")), PROVIDER, exchange.model)
                if "usage" in data and not exchange.wants_usage:
                    continue  # litellm keeps it from callers who did not ask
                data["choices"] = [{"index": 0, "delta": {}}]  # as litellm does: callers read `choices[0]`
            yield exchange.dialect.chunk(data, self._like, self._said)

    async def _again(self, body: bytes) -> None:
        exchange = self._exchange
        await self._close_inner()
        exchange.again(body)
        self._originals.clear()
        self._count = 0
        self._over = False
        self._inner = await exchange.ask()
        self._guarded = await exchange.open(stream=True)

    async def _close_inner(self) -> None:
        await self._exchange.hang_up(self._inner)

    @classmethod
    def answering(cls, exchange: ClientExchange, answer: Answer) -> Any:
        """A stream that says what the guard answers without asking anybody."""
        made = cls(exchange, None)
        made._over = True
        made._ready.extend(made._chunks(((answer.body, None),)))
        return made


async def _next(inner: Any) -> Any:
    return await inner.__anext__()


def _close_unheard(exchange: ClientExchange) -> None:
    """Close from a finaliser, where nothing can be awaited: a plane in this process does not wait, and its record must
    not stay open for ever."""
    closing = exchange.guard.plane.close(exchange.call_id, CLOSED_EARLY)
    exchange.closed = True
    try:
        closing.send(None)  # pyright: ignore[reportAttributeAccessIssue]
    except StopIteration:
        pass
    except Exception as error:  # noqa: BLE001 - a finaliser has nobody to raise to
        warnings.warn(f"closing an abandoned stream failed: {error!r}", ResourceWarning, stacklevel=1)
    finally:
        getattr(closing, "close", _nothing)()


def _nothing() -> None: ...
