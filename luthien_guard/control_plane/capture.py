"""Every piece of a response with its time, as upstream sent it: for replays of what was recorded. Off by default."""

from __future__ import annotations

from luthien_guard.control_plane.service import Release, StreamingContext
from luthien_guard.control_plane.stream import LocalStream
from luthien_guard.engine.exchange import Exchange
from luthien_guard.records import EventType

__all__ = ["CapturedStream"]


class CapturedStream(LocalStream):
    """A `LocalStream` that remembers what it is fed, up to the limit for responses."""

    __slots__ = ("_left", "_parts", "_stream", "_times")

    def __init__(self, exchange: Exchange, context: StreamingContext) -> None:
        super().__init__(exchange, context)
        self._stream = context.stream
        self._parts: list[bytes] = []
        self._times: list[float] = []
        self._left = exchange.services.limits.max_response_bytes

    async def feed(self, data: bytes, *, last: bool = False) -> Release:
        exchange = self._exchange
        if data and len(data) <= self._left:
            self._left -= len(data)
            self._parts.append(data)
            self._times.append(round(exchange.services.clock() - exchange.begun, 6))
        if last:
            exchange.record(
                EventType.RESPONSE_CHUNKS,
                status=self._status,
                stream=self._stream,
                body_text=b"".join(self._parts).decode("utf-8", "replace"),
                chunk_lens=[len(part) for part in self._parts],
                chunk_times=self._times,
            )
        return await super().feed(data, last=last)
