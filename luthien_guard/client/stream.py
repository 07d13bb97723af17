"""A guarded stream: what litellm yields, as far as the policies let it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any

import anyio

from luthien_guard.client.exchange import ClientExchange, frames
from luthien_guard.client.litellm_api import litellm
from luthien_guard.control_plane.service import GuardedStream, Release
from luthien_guard.exchange import Outcome, OutcomeStatus

__all__ = ["GuardedIterator", "chat_stream_type"]


class GuardedIterator:
    """Async iterator over litellm's chunks. No task runs beside it: everything happens while somebody asks for the
    next chunk, so nothing is left behind when nobody does. `aclose()` ends the exchange early."""

    def __init__(self, exchange: ClientExchange, inner: Any, stream: GuardedStream | None) -> None:
        self._exchange = exchange
        self._inner = inner
        self._guarded = stream
        self._ready: deque[Any] = deque()
        self._originals: dict[int, Any] = {}
        self._count = 0
        self._over = stream is None

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        while not self._ready:
            if self._over:
                await self._exchange.close_or_raise()
                raise StopAsyncIteration
            try:
                await self._pull()
            except BaseException as error:
                self._over = True
                await self._exchange.failed(error)
                raise
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Close upstream and the exchange; what is still held is never seen."""
        self._over = True
        self._ready.clear()
        await self._close_inner()
        await self._exchange.close(Outcome(OutcomeStatus.CANCELLED, reason="closed by the caller"))

    async def _pull(self) -> None:
        assert self._guarded is not None
        try:
            with anyio.fail_after(self._exchange.guard.limits.idle_timeout):
                chunk = await self._inner.__anext__()
        except StopAsyncIteration:
            release = await self._guarded.feed(b"", last=True)
            self._over = True
        else:
            release = await self._feed(self._guarded, chunk)
        await self._take(release)
        while release.pending:
            release = await self._guarded.settle()
            await self._take(release)

    async def _feed(self, guarded: GuardedStream, chunk: Any) -> Release:
        if isinstance(chunk, (bytes, str)):
            return await guarded.feed(chunk.encode() if isinstance(chunk, str) else chunk)
        self._originals[self._count] = chunk
        self._count += 1
        return await guarded.feed_chunks([self._exchange.dialect.mapping(chunk)])

    async def _take(self, release: Release) -> None:
        if release.retry is not None:
            await self._again(release.retry)
            return
        if release.done:
            self._over = True
            await self._close_inner()
            if self._exchange.raises or release.answer is not None:
                await self._exchange.close_or_raise(release)
        self._ready.extend(self._chunks(release))

    def _chunks(self, release: Release) -> Iterator[Any]:
        for raw, source in release.items:
            original = None if source is None else self._originals.pop(source, None)
            if original is not None:
                yield original
            elif not self._originals and self._count == 0 and not self._is_parsed():
                yield raw
            else:
                for data in frames(raw):
                    yield self._exchange.dialect.chunk(data)

    def _is_parsed(self) -> bool:
        """False for anthropic_messages, which yields bytes."""
        return self._exchange.dialect.wire_format != "anthropic.messages"

    async def _again(self, body: bytes) -> None:
        await self._close_inner()
        self._exchange.body = body
        self._originals.clear()
        self._count = 0
        self._inner = await self._exchange.ask()
        self._guarded = await self._exchange.open()

    async def _close_inner(self) -> None:
        close = getattr(self._inner, "aclose", None)
        if close is not None:
            with anyio.CancelScope(shield=True), anyio.move_on_after(self._exchange.guard.limits.close_timeout):
                await close()

    @classmethod
    def answering(cls, exchange: ClientExchange, release: Release) -> Any:
        """A stream that says what the guard answers without asking anybody."""
        made = cls(exchange, None, None)
        made._ready.extend(made._chunks(release))
        return made


@cache
def chat_stream_type() -> type[GuardedIterator]:
    """`GuardedIterator` as a subclass of litellm's stream class: others check for that."""
    base: Any = litellm().CustomStreamWrapper

    class GuardedStreamWrapper(GuardedIterator, base):  # type: ignore[misc]
        """What `acompletion(stream=True)` gives. Attributes that it does not have are those of litellm's stream."""

        def __getattr__(self, name: str) -> Any:
            inner = self.__dict__.get("_inner")
            if inner is None:
                raise AttributeError(name)
            return getattr(inner, name)

    return GuardedStreamWrapper
