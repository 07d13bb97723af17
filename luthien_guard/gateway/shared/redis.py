"""`redis://...`: many machines, on Redis or Valkey, one script a question. Driver: coredis (the extra `redis`)."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from importlib import import_module
from typing import Final, TypeVar

import anyio

from luthien_guard.gateway.key import Key, KeyReader, key_of, row_of
from luthien_guard.gateway.shared.pace import MICRO, Pace
from luthien_guard.gateway.shared.redis_scripts import Client
from luthien_guard.sinks.loop_thread import LoopThread
from luthien_guard.sinks.redis_failures import left_if_replica, place_of, told

__all__ = ["RedisShared", "from_url"]

T = TypeVar("T")

_PATIENCE: Final = 2.0  # seconds for one question, that of connecting included
_AT_ONCE: Final = 64  # questions on the way over one connection
_KEYS: Final = "luthien_guard:keys"
_FIELDS: Final = ("id", "mac", "name", "scopes", "created_at", "expires_at", "revoked_at", "settings")


def from_url(url: str) -> RedisShared:
    """Raises ConfigError."""
    hubs = import_module("luthien_guard.sinks.pubsub.redis")
    hubs.from_url(url)  # what is wrong with it is told there
    return RedisShared(url)


class RedisShared:
    """Implements `Shared` and `KeyTable`."""

    def __init__(self, url: str) -> None:
        self.place = place_of(url)
        self.at_once = _AT_ONCE
        self._reader = KeyReader(self.place)
        self._url = url
        self._thread = LoopThread("luthien-guard-shared", wakes=True)
        self._open: tuple[Client, anyio.Event] | None = None

    async def take(self, bucket: str, pace: Pace) -> float:
        wait = await self._asked(
            lambda to: to.take([f"luthien_guard:bucket:{bucket}"], [pace.interval, pace.ahead])
        )
        return int(wait) / MICRO

    async def announce(self, fleet: str, worker: str, version: str, seconds: float) -> Mapping[str, str]:
        values = [worker, version, round(seconds * 1000)]
        found = await self._asked(lambda to: to.announce([f"luthien_guard:workers:{fleet}"], values))
        return dict(zip(found[::2], found[1::2], strict=True))

    async def find(self, ids: Collection[str]) -> list[Key]:
        return self._reader.keys(await self._asked(lambda to: _found(to, ids)), _key)

    def add(self, key: Key) -> None:
        async def work(to: Client) -> None:
            async with to.redis.pipeline(transaction=True) as pipeline:
                pipeline.hset(_name(key.id), _fields(key))
                pipeline.sadd(_KEYS, [key.id])

        self._waited(work)

    def revoke(self, id: str, at: float) -> bool:
        return int(self._waited(lambda to: to.revoke([_name(id)], [repr(at)]))) == 1

    def all(self) -> list[Key]:
        async def work(to: Client) -> list[Mapping[str, str]]:
            return await _found(to, await to.redis.smembers(_KEYS))

        found = self._reader.keys(self._waited(work), _key)
        return sorted(found, key=lambda key: (key.created_at, key.id))

    def close(self) -> None:
        self._thread.stop()

    # ------------------------------------------------------------------------------------------------------------------

    async def _asked(self, work: Callable[[Client], Awaitable[T]]) -> T:
        with told(self._url):
            return await self._thread.awaited(lambda: self._bounded(work))

    def _waited(self, work: Callable[[Client], Awaitable[T]]) -> T:
        with told(self._url):
            return self._thread.call(lambda: self._bounded(work))

    async def _bounded(self, work: Callable[[Client], Awaitable[T]]) -> T:
        with anyio.fail_after(_PATIENCE):
            client = await self._live()
            with left_if_replica(client.redis):
                return await work(client)

    async def _live(self) -> Client:
        """Asks nobody yet: the driver connects with its first command."""
        if self._open is None:
            client, entered = Client(self._url, _PATIENCE), anyio.Event()
            self._open = client, entered
            self._thread.beside(lambda: self._hosted(client, entered))
        client, entered = self._open
        await entered.wait()
        return client

    async def _hosted(self, client: Client, entered: anyio.Event) -> None:
        """The driver's own tasks belong to the one that opened it; should they end, the next question opens it anew."""
        try:
            with contextlib.suppress(Exception):  # who asks is told
                async with client.redis:
                    entered.set()
                    await anyio.sleep_forever()
        finally:
            if self._open is not None and self._open[0] is client:
                self._open = None
            entered.set()


async def _found(to: Client, ids: Collection[str]) -> list[Mapping[str, str]]:
    """The fields of those that are there."""
    if not ids:
        return []
    async with to.redis.pipeline(transaction=False, raise_on_error=False) as pipeline:
        asked = [(id, pipeline.hgetall(_name(id))) for id in ids]
    return [fields for fields in [await _said(*each) for each in asked] if fields]


async def _said(id: str, asked: Awaitable[Mapping[str, str]]) -> Mapping[str, str]:
    import coredis.exceptions

    try:
        return await asked
    except coredis.exceptions.WrongTypeError:
        # a value of another kind has that name: it is spoiled, and no other
        return {"id": id}


def _name(id: str) -> str:
    return f"luthien_guard:key:{id}"


def _fields(key: Key) -> dict[str, str]:
    """What is None is not there."""
    row = dict(zip(_FIELDS, row_of(key), strict=True))
    return {
        **{name: str(value) for name, value in row.items() if value is not None},
        "mac": key.mac.hex(),
    }


def _key(fields: Mapping[str, str]) -> Key:
    """Raises ValueError."""
    try:
        times = [_time(fields.get(name)) for name in ("created_at", "expires_at", "revoked_at")]
        words = fields["id"], bytes.fromhex(fields["mac"]), fields["name"], fields["scopes"]
        row = (*words, *times, fields["settings"])
    except (KeyError, TypeError, ValueError):  # the driver leaves what is not in UTF-8 as bytes
        raise ValueError(f"{fields.get('id')!r} is no key: fields are missing or spoiled") from None
    return key_of(row)


def _time(text: str | None) -> float | None:
    return None if text is None else float(text)
