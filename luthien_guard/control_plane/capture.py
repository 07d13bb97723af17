"""Every piece of a response with its time, as upstream sent it: for replays of what was recorded. Off by default."""

from __future__ import annotations

from luthien_guard.control_plane.service import Release, StreamingContext
from luthien_guard.control_plane.stream import LocalStream
from luthien_guard.engine.exchange import Exchange
from luthien_guard.records import EventType

__all__ = ["CapturedStream"]


class CapturedStream(LocalStream):
    """A `LocalStream` that remembers what it is fed, up to the limit for responses: from the first piece that has no room
    on, bytes are only counted, because a replay with a hole would be of an answer that never was."""

    __slots__ = ("_left", "_missing", "_parts", "_recorded", "_stream", "_times")

    def __init__(self, exchange: Exchange, context: StreamingContext) -> None:
        super().__init__(exchange, context)
        self._stream = context.stream
        self._parts: list[bytes] = []
        self._times: list[float] = []
        self._left = exchange.services.limits.max_response_bytes
        self._missing = 0
        self._recorded = False

    async def feed(self, data: bytes, *, last: bool = False) -> Release:
        if data:
            self._keep(data)
        if last:
            self._tell()
        release = await super().feed(data, last=last)
        release.alike = None  # every piece is to be seen
        return release

    async def fail(self, status: int, code: str, message: str) -> Release:
        self._tell()
        return await super().fail(status, code, message)

    def _keep(self, data: bytes) -> None:
        if self._missing or len(data) > self._left:
            self._missing += len(data)
            return
        exchange = self._exchange
        self._left -= len(data)
        self._parts.append(data)
        self._times.append(round(exchange.services.clock() - exchange.begun, 6))

    def _tell(self) -> None:
        if self._recorded:  # it came whole, and was ended all the same
            return
        self._recorded = True
        self._exchange.record(
            EventType.RESPONSE_CHUNKS,
            status=self._status,
            stream=self._stream,
            body_text=b"".join(self._parts).decode("utf-8", "replace"),
            chunk_lens=[len(part) for part in self._parts],
            chunk_times=self._times,
            missing=self._missing,
        )
