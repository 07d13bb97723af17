"""litellm's chunks as the stream that a client of the wire format reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import anyio

from luthien_guard.client.dialects import CHAT, MESSAGES, Dialect
from luthien_guard.client.ending import are_half, arguments_in, is_made_up
from luthien_guard.gateway.upstreams.answers import BROKEN
from luthien_guard.gateway.upstreams.ending import Ending
from luthien_guard.gateway.upstreams.litellm_errors import failure_of
from luthien_guard.gateway.upstreams.staying import staying
from luthien_guard.gateway.upstreams.types import Call, HeaderList, UpstreamError

__all__ = ["LitellmStream"]

_CLOSING: Final = 1.0  # seconds to close an upstream connection in
#: How litellm ends a stream of anthropic.messages that failed: with the words of its exception, addresses and keys in them.
_FAILED: Final = b"event: error\ndata:"
_LONGEST: Final = 2000  # characters of them


class LitellmStream:
    """litellm's chunks as SSE in the client's wire format."""

    stream = True
    status = 200

    def __init__(self, dialect: Dialect, chunks: AsyncIterator[Any], call: Call) -> None:
        self.headers: HeaderList = [(b"content-type", b"text/event-stream; charset=utf-8")]
        self._dialect = dialect
        self._chunks = chunks
        self._first: bytes | None = None
        self._ended = False
        self._record = call.record
        self._ending = Ending(call.wire_format)
        self._calls: list[bytes] = []  # the JSON of chunks of openai.chat that say something of one

    async def begin(self) -> None:
        """Await the first event. Raises UpstreamError."""
        try:
            self._first = await self._next()
        except BaseException:
            await self.aclose()
            raise

    async def read(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await self._next()

    async def aclose(self) -> None:
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            with anyio.move_on_after(_CLOSING, shield=True):
                await close()

    async def _next(self) -> bytes:
        if self._ended:
            return b""
        try:
            with staying():  # some of its streams ask only when they are read
                event = self._event(await anext(self._chunks))
        except StopAsyncIteration:
            self._ended = True
            return b"data: [DONE]\n\n" if self._dialect is CHAT else b""
        except Exception as error:
            if not self._ending.is_over():
                raise failure_of(error) from error
            self._ended = True
            self._record("upstream.broke_off", after="its last event")
            return b""
        if self._breaks_off():
            raise UpstreamError(502, "upstream_error", BROKEN, again=False)
        if self._dialect is MESSAGES and event.startswith(_FAILED):
            self._record(
                "upstream.said", error=event[len(_FAILED) :].decode(errors="replace")[:_LONGEST].strip()
            )
            raise UpstreamError(502, "upstream_error", BROKEN, again=False)
        self._ending.note(event)
        return event

    def _breaks_off(self) -> bool:
        """Whether litellm ends here what upstream has not, within a call. (What it converts it ends unseen.)"""
        return is_made_up(self._chunks) and are_half(arguments_in(self._calls))

    def _event(self, chunk: Any) -> bytes:
        if isinstance(chunk, bytes):
            return chunk
        if isinstance(chunk, str):
            return chunk.encode()
        data = self._dialect.json(chunk)
        kind = chunk.get("type") if isinstance(chunk, dict) else getattr(chunk, "type", None)
        if self._dialect is CHAT and (b'"tool_calls"' in data or b'"function_call"' in data):
            self._calls.append(data)
        if self._dialect is CHAT or kind is None:
            return b"data: " + data + b"\n\n"
        return b"event: " + str(getattr(kind, "value", kind)).encode() + b"\ndata: " + data + b"\n\n"
