"""A guarded stream: what litellm yields, as far as the policies let it."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import Any

from luthien_guard.client.asking import Asking
from luthien_guard.client.chunks import Chunks
from luthien_guard.client.ending import DONE, are_half, are_whole, arguments_in, is_made_up
from luthien_guard.client.exchange import CLOSED_EARLY, ClientExchange
from luthien_guard.client.litellm_api import PROVIDER
from luthien_guard.client.watch import watched
from luthien_guard.clock import OutOfTime
from luthien_guard.control_plane.service import Answer, GuardedStream, Release

__all__ = ["GuardedIterator"]


class GuardedIterator:
    """Async iterator over litellm's chunks. No task runs beside it: everything happens while somebody asks for the
    next chunk, so nothing is left behind when nobody does. `aclose()` ends the exchange early; leaving the iterator to
    the garbage collector is a ResourceWarning. Raises what litellm raises, litellm's Timeout when upstream is silent
    for too long, and PolicyViolation where the caller wants blocks as exceptions."""

    def __init__(self, exchange: ClientExchange, inner: Any) -> None:
        self._exchange = exchange
        self._inner = inner
        self._asking = Asking(exchange, inner)
        self._guarded: GuardedStream | None = exchange.stream
        self._ready: deque[Any] = deque()
        self._came = Chunks(exchange)
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
        """In one coroutine where nobody waits: litellm's first step is made by hand, and is its last one then."""
        if self._busy:
            raise RuntimeError("the stream is already being read by another task")
        self._busy = True
        try:
            while not self._ready:
                if self._over:
                    await self._heard_all()
                    await self._exchange.close_or_raise()
                    raise StopAsyncIteration
                try:
                    work = self._asking.next()
                    try:
                        first = work.send(None)
                    except StopIteration as stop:
                        chunk = stop.value
                    else:
                        chunk = await self._asking.rest_of(work, first)
                except StopAsyncIteration:
                    await self._ended()
                    continue
                except OutOfTime:
                    raise await self._exchange.silent() from None
                if self._guarded is None:
                    self._ready.append(chunk)
                elif (deciding := self._put(self._guarded, chunk)) is not None:
                    await deciding
        except StopAsyncIteration:
            raise
        except BaseException as error:
            await self._failed(error)
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

    async def _failed(self, error: Any) -> None:
        self._over = True
        # litellm's exception quotes what it has heard, for who wants to go on from there: that is what has left.
        if self._guarded is not None and hasattr(error, "generated_content"):
            error.generated_content = self._exchange.dialect.text(self.chunks)
        await self._close_inner()
        await self._exchange.failed(error)

    # -- one step ------------------------------------------------------------------------------------------------------

    def _put(self, guarded: GuardedStream, chunk: Any) -> Awaitable[None] | None:
        """Ask the guard for what may leave of a chunk; to be awaited where its text is not enough, or somebody waits."""
        came = self._came
        text = came.text_of(chunk)
        if not text:
            return self._put_whole(guarded, chunk, text)
        said = guarded.feed_text(text)
        if not isinstance(said, str):
            return self._put_later(guarded, chunk, text, said)
        self._ready.append(came.left(chunk, text, said))
        return None

    async def _put_later(
        self, guarded: GuardedStream, chunk: Any, text: str, said: Coroutine[Any, Any, str | Release]
    ) -> None:
        release = await watched(guarded, said)
        if isinstance(release, str):
            self._ready.append(self._came.left(chunk, text, release))
        else:
            await self._decided(chunk, text, release)

    async def _put_whole(self, guarded: GuardedStream, chunk: Any, text: str | None) -> None:
        came = self._came
        if is_made_up(self._inner) and are_half(arguments_in(came.held())):
            await self._ended()  # as it did
        else:
            await self._decided(chunk, text, await watched(guarded, guarded.feed(came.framed(chunk))))

    async def _decided(self, chunk: Any, text: str | None, release: Release) -> None:
        self._came.decided(chunk, text, release)
        if release.done or release.pending:
            await self._take(release)
        else:
            self._ready.extend(self._came.leaving(release))

    async def _ended(self) -> None:
        """Upstream says no more."""
        self._over = True
        guarded = self._guarded
        if guarded is not None:
            await self._take(await watched(guarded, guarded.feed(self._end(), last=True)))

    def _end(self) -> bytes:
        """What litellm leaves out where upstream has finished a choice: that the others are finished, too."""
        finished = getattr(self._inner, "received_finish_reason", None)
        return DONE if finished and are_whole(arguments_in(self._came.held())) else b""

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
            self._ready.extend(self._came.leaving(release))
            if release.pending == release.aside or guarded is None:
                return
            release = await watched(guarded, guarded.settle())

    async def _heard_all(self) -> None:
        """The caller has everything: those who only look on say what they have to say."""
        guarded = self._guarded
        while guarded is not None and not self._exchange.closed:
            release = await watched(guarded, guarded.settle())
            if not release.pending:
                break

    async def _done(self, release: Release) -> None:
        """The guard ended the answer."""
        self._over = True
        await self._close_inner()
        if self._exchange.raises or release.answer is not None:
            await self._exchange.close_or_raise(release.answer)
        if release.answer is not None:
            self._ready.extend(self._came.made(release.answer.body))
        self._ready.extend(self._came.leaving(release))

    async def _again(self, body: bytes) -> None:
        exchange = self._exchange
        await self._close_inner()
        exchange.again(body)
        self._came = Chunks(exchange)
        self._over = False
        self._inner = await exchange.ask()
        self._asking = Asking(exchange, self._inner)
        self._guarded = await exchange.open(stream=True)

    async def _close_inner(self) -> None:
        await self._exchange.hang_up(self._inner)

    @classmethod
    def answering(cls, exchange: ClientExchange, answer: Answer) -> Any:
        """A stream that says what the guard answers without asking anybody."""
        made = cls(exchange, None)
        made._over = True
        made._ready.extend(made._came.made(answer.body))
        return made


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
