"""`redis://...`: a stream of the latest notices, on Redis or Valkey. Driver: coredis (the extra `redis`)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import anyio
from anyio.to_thread import run_sync

from luthien_guard.errors import ConfigError
from luthien_guard.pubsub import Notice
from luthien_guard.sinks.loop_thread import LoopThread
from luthien_guard.sinks.pubsub.mailbox import gap
from luthien_guard.sinks.redis_failures import Closed, left_if_replica, told

__all__ = ["RedisPubSub", "from_url"]

T = TypeVar("T")

_PATIENCE: Final = 5.0  # seconds for an answer
_BLOCK: Final = 1000  # milliseconds that the server waits for news
_MOST: Final = 500  # notices at once
_BEGINNING: Final = "0-0"  # before all ids


def from_url(url: str) -> RedisPubSub:
    """`redis://user:password@host:port/number`, `rediss://` with TLS. Raises ConfigError, without the password."""
    import_module("coredis")  # told now when it is missing

    try:
        parts = urlsplit(url)
        fine = (
            bool(parts.hostname)
            and parts.port != 0
            and parts.path.strip("/").isdecimal() | (parts.path in ("", "/"))
        )
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError("a URL like redis://user:password@host:6379/0 is expected")
    return RedisPubSub(url)


class RedisPubSub:
    """Implements `PubSub`. The stream `key` keeps about the last `kept` notices; a subscriber reads at its own pace, and
    gets a GAP when it is behind them."""

    def __init__(self, url: str, *, key: str = "luthien_guard:notices", kept: int = 100_000) -> None:
        self._url = url
        self._key = key
        self._kept = kept
        self._thread = LoopThread("luthien-guard-redis")
        self._lock = threading.Lock()
        self._client: Any = None
        self._hosting: Future[None] | None = None  # the driver's own tasks belong to the one that opened it

    def open(self) -> None:
        with self._lock:
            if self._client is None:
                self._thread.start()
                try:
                    with told(self._url):
                        self._enter()
                except BaseException:
                    self._leave()
                    raise

    def _enter(self) -> None:
        import coredis

        client: Any = coredis.Redis.from_url(
            self._url, decode_responses=True, connect_timeout=_PATIENCE, stream_timeout=_PATIENCE
        )
        entered: Future[None] = Future()

        async def hosted() -> None:
            try:
                async with client:
                    entered.set_result(None)
                    await anyio.sleep_forever()
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 -- once it is open, who asks is told
                if not entered.done():
                    entered.set_exception(error)
            finally:
                entered.cancel()

        self._hosting = self._thread.promised(hosted)
        entered.result()
        self._client = client
        self._thread.call(client.ping)

    def close(self) -> None:
        """Ends the subscriptions."""
        with self._lock:
            self._leave()

    def _leave(self) -> None:
        self._client = self._hosting = None
        self._thread.stop()

    def publish(self, notices: Sequence[Notice]) -> None:
        from coredis.tokens import PureToken

        async def add() -> None:
            with anyio.fail_after(2 * _PATIENCE), left_if_replica(self._client):
                async with self._client.pipeline(transaction=False) as pipeline:
                    for each in notices:
                        pipeline.xadd(
                            self._key,
                            _fields(each),
                            trim_strategy=PureToken.MAXLEN,
                            trim_operator=PureToken.APPROXIMATELY,
                            threshold=self._kept,
                        )

        with told(self._url):
            self._thread.call(add)

    @asynccontextmanager
    async def subscribe(self, *, after: str | None = None) -> AsyncGenerator[AsyncIterator[Notice]]:
        await run_sync(self.open)
        reader = _Reader(self._asked, self._client, self._key, self._kept)
        await reader.start(after)
        yield reader

    async def _asked(self, work: Callable[[], Awaitable[T]]) -> T:
        """From the subscriber's loop."""
        with told(self._url):
            return await self._thread.awaited(work)


class _Reader:
    """One subscriber's place in the stream."""

    def __init__(self, asked: Callable[[Any], Awaitable[Any]], client: Any, key: str, kept: int) -> None:
        self._asked = asked
        self._client = client
        self._key = key
        self._kept = kept
        self._cursor = _BEGINNING
        self._found: deque[Notice] = deque()

    async def start(self, after: str | None) -> None:
        if after is not None and await self._asked(lambda: self._is_there(after)):
            self._cursor = after
            return
        newest = await self._asked(self._newest)
        self._cursor = newest
        if after is not None:
            self._found.append(gap(newest))

    async def _newest(self) -> str:
        entries = await self._client.xrevrange(self._key, count=1)
        return str(entries[0].identifier) if entries else _BEGINNING

    async def _is_there(self, id: str) -> bool:
        milliseconds, dash, number = id.partition("-")
        if not (milliseconds.isdecimal() and dash and number.isdecimal()):
            return False
        return bool(await self._client.xrange(self._key, start=id, end=id))

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> Notice:
        while not self._found:
            try:
                self._found.extend(await self._asked(self._read))
            except Closed:
                raise StopAsyncIteration from None
        return self._found.popleft()

    async def _read(self) -> list[Notice]:
        found = await self._client.xread({self._key: self._cursor}, count=_MOST, block=_BLOCK)
        entries = found[self._key] if found else ()
        if not entries:
            return []
        notices = [_notice(each) for each in entries]
        if await self._may_miss():
            notices.insert(0, gap(self._cursor))
        self._cursor = notices[-1].id
        return notices

    async def _may_miss(self) -> bool:
        """What is trimmed goes from the old end: while the last one seen is there, none after it can be missing, and
        while there are fewer than are kept, none at all."""
        if self._cursor == _BEGINNING:
            return int(await self._client.xlen(self._key)) >= self._kept
        return not await self._is_there(self._cursor)


def _fields(notice: Notice) -> dict[str, str]:
    fields = {
        "call_id": notice.call_id,
        "seq": str(notice.seq),
        "at": repr(notice.at),
        "event_type": notice.event_type,
    }
    return fields if notice.policy is None else {**fields, "policy": notice.policy}


def _notice(entry: Any) -> Notice:
    """Others may write to the stream what they like: what is no notice is a gap."""
    fields = dict(entry.field_values)
    try:
        return Notice(
            str(entry.identifier),
            fields["call_id"],
            int(fields["seq"]),
            float(fields["at"]),
            fields["event_type"],
            fields.get("policy"),
        )
    except (KeyError, ValueError):
        return gap(str(entry.identifier))
