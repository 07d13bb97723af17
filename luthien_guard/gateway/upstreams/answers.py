"""What a native upstream's answer becomes: whole frames of a stream, or the whole body."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- what aiohttp rides on; its timers cost a third of a scope's
from typing import TYPE_CHECKING, Final

from luthien_guard.asgi.sniff import says_event_stream
from luthien_guard.gateway.upstreams.ending import Ending
from luthien_guard.gateway.upstreams.frames import Frames, is_all_there
from luthien_guard.gateway.upstreams.headers import for_client
from luthien_guard.gateway.upstreams.types import Call, HeaderList, Reply, UpstreamError, WholeReply
from luthien_guard.limits import Limits

if TYPE_CHECKING:
    import aiohttp

__all__ = ["BROKEN", "GARBLED", "MODEL_PATHS", "reply_of"]

#: Whose streams end with an event that is known; other paths hold ids, without bound.
MODEL_PATHS: Final = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
GARBLED: Final = "the upstream did not answer in HTTP that can be read"
BROKEN: Final = "the upstream broke off before its answer was complete"
_DECODED: Final = ("", "identity", "gzip", "deflate", "br")  # by aiohttp; nothing was asked for


class _Streamed:
    """An answer that is still coming, in whole frames."""

    stream = True

    def __init__(self, response: aiohttp.ClientResponse, limits: Limits, call: Call) -> None:
        self.status = response.status
        self.headers = _told(response)
        self._response = response
        self._record = call.record
        self._first: bytes | None = None
        self._readany = response.content.readany
        self._frames = Frames(limits.max_event_bytes)
        # What other paths stream ends in words of its own; but without framing the end of the connection is that of
        # the body, and a cut looks the same.
        framed = any(name in response.headers for name in ("transfer-encoding", "content-length"))
        # In every event, also where it is kept under an id.
        self._says_json = call.path.startswith(MODEL_PATHS)
        self._ending = Ending(call.wire_format) if call.path in MODEL_PATHS or not framed else None

    async def begin(self, seconds: float) -> None:
        """Await the first frame, at most so long for each of its pieces. Raises UpstreamError."""
        try:
            while not self._first:
                data = await _next(self._response.content, seconds)
                self._first = self._frames.feed(data) if data else self._rest()
                if not data:
                    break
        except TimeoutError:
            raise UpstreamError(504, "idle_timeout", "the upstream fell silent") from None
        except Exception as error:
            raise UpstreamError(502, "upstream_error", BROKEN) from error
        if not self._first:
            raise UpstreamError(502, "upstream_error", "the upstream's stream is empty")

    async def read(self) -> bytes:
        data = await self._read()
        if self._ending is not None:
            if data:
                self._ending.note(data)
            elif not self._ending.may_end():
                raise UpstreamError(502, "upstream_error", BROKEN, again=False)
        return data

    async def _read(self) -> bytes:
        if self._first is not None:
            data, self._first = self._first, None
            return data
        try:
            while data := await self._readany():
                if whole := self._frames.feed(data):
                    return whole
        except Exception as error:
            if self._lacks_nothing():
                return b""
            raise UpstreamError(502, "upstream_error", BROKEN, again=False) from error
        return self._rest()

    def _rest(self) -> bytes:
        """At an orderly end. Raises UpstreamError where it stands within an event."""
        rest = self._frames.rest()
        if not rest or not self._says_json or is_all_there(rest):
            return rest
        if self._lacks_nothing():
            return b""
        raise UpstreamError(502, "upstream_error", BROKEN, again=False)

    def _lacks_nothing(self) -> bool:
        """It broke off after the last event of its format."""
        if self._ending is None or not self._ending.is_over():
            return False
        self._record("upstream.broke_off", after="its last event")
        return True

    async def aclose(self) -> None:
        self._response.close()  # gives back a connection whose answer was read to its end; closes any other


async def reply_of(response: aiohttp.ClientResponse, limits: Limits, call: Call) -> Reply:
    """The answer with its first event; a body that is not streamed whole."""
    try:
        # 205 has no body, and who sends one means it.
        if not 200 <= response.status <= 599 or response.status == 205:
            raise UpstreamError(502, "upstream_error", GARBLED)
        if 300 <= response.status < 400:
            raise UpstreamError(502, "upstream_error", "the upstream points elsewhere", again=False)
        if response.headers.get("content-encoding", "identity").strip().lower() not in _DECODED:
            raise UpstreamError(502, "uninspectable_response", "the upstream's encoding cannot be undone")
        if says_event_stream(response.headers.get("content-type", "").encode()):
            streamed = _Streamed(response, limits, call)
            await streamed.begin(limits.idle_timeout)
            return streamed
        return await _whole(response, limits)
    except BaseException:
        response.close()
        raise


def _told(response: aiohttp.ClientResponse) -> HeaderList:
    """For the client; of several content types the first, for that is the one the answer is judged by."""
    headers = for_client(response.raw_headers)
    kinds = [pair for pair in headers if pair[0] == b"content-type"]
    if len(kinds) < 2:
        return headers
    return [*kinds[:1], *(pair for pair in headers if pair[0] != b"content-type")]


async def _next(content: aiohttp.StreamReader, seconds: float) -> bytes:
    """The next bytes; b"" at the end. What is there already costs no timer. Raises TimeoutError."""
    if data := content.read_nowait():
        return data
    if content.at_eof():
        return b""
    async with asyncio.timeout(seconds):
        return await content.readany()


async def _whole(response: aiohttp.ClientResponse, limits: Limits) -> WholeReply:
    body = bytearray()
    try:
        while part := await _next(response.content, limits.idle_timeout):
            body += part
            if len(body) > limits.max_response_bytes:
                raise UpstreamError(
                    502, "response_too_large", "the upstream's answer is too large", again=False
                )
    except TimeoutError:
        raise UpstreamError(504, "idle_timeout", "the upstream fell silent in its answer") from None
    except UpstreamError:
        raise
    except Exception as error:
        raise UpstreamError(502, "upstream_error", BROKEN) from error
    response.release()
    return WholeReply(response.status, _told(response), bytes(body))
