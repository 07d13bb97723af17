"""`redis://...`: many machines, on Redis or Valkey, one script a question. Driver: coredis (the extra `redis`)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

import anyio

from luthien_guard.errors import SinkError
from luthien_guard.gateway.key import Key, key_of, row_of
from luthien_guard.gateway.shared.pace import MICRO, Pace
from luthien_guard.gateway.shared.redis_scripts import Client
from luthien_guard.sinks.driver_thread import DriverThread

__all__ = ["RedisShared", "from_url"]

T = TypeVar("T")

_PATIENCE: Final = 2.0  # seconds for one question, that of connecting included
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
        parts = urlsplit(url)
        self.place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._url = url
        self._thread = DriverThread("luthien-guard-shared")
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._context: AbstractContextManager[Any] | None = None

    async def take(self, bucket: str, pace: Pace) -> float:
        wait = await self._asked(
            lambda to: to.take([f"luthien_guard:bucket:{bucket}"], [pace.interval, pace.ahead])
        )
        return int(wait) / MICRO

    async def announce(self, fleet: str, worker: str, version: str, seconds: float) -> Mapping[str, str]:
        values = [worker, version, round(seconds * 1000)]
        found = await self._asked(lambda to: to.announce([f"luthien_guard:workers:{fleet}"], values))
        return dict(zip(found[::2], found[1::2], strict=True))

    async def find(self, id: str) -> Key | None:
        return _key(await self._asked(lambda to: to.redis.hgetall(_name(id))))

    def add(self, key: Key) -> None:
        async def work(to: Client) -> None:
            async with to.redis.pipeline(transaction=True) as pipeline:
                pipeline.hset(_name(key.id), _fields(key))
                pipeline.sadd(_KEYS, [key.id])

        self._waited(work)

    def revoke(self, id: str, at: float) -> bool:
        return int(self._waited(lambda to: to.revoke([_name(id)], [repr(at)]))) == 1

    def all(self) -> list[Key]:
        async def work(to: Client) -> list[Key | None]:
            return [_key(await to.redis.hgetall(_name(id))) for id in await to.redis.smembers(_KEYS)]

        found = [key for key in self._waited(work) if key is not None]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    def close(self) -> None:
        with self._lock:
            context, self._context = self._context, None
            self._client = None
            if context is not None:
                with contextlib.suppress(SinkError), self._told():
                    context.__exit__(None, None, None)
            self._thread.stop()

    # ------------------------------------------------------------------------------------------------------------------

    async def _asked(self, work: Callable[[Client], Awaitable[T]]) -> T:
        to = self._opened()
        with self._told():
            return await self._thread.awaited(lambda: _bounded(work, to))

    def _waited(self, work: Callable[[Client], Awaitable[T]]) -> T:
        to = self._opened()
        with self._told():
            return self._thread.call(lambda: _bounded(work, to))

    def _opened(self) -> Client:
        """Asks nobody yet: the driver connects with its first command."""
        with self._lock:
            if self._client is None:
                self._thread.start()
                # there, for its locks are those of the loop where it is made
                client = self._thread.portal.call(Client, self._url, _PATIENCE)
                self._context = self._thread.portal.wrap_async_context_manager(client.redis)
                self._context.__enter__()
                self._client = client
            return self._client

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        """Failures as SinkErrors that say which server and what."""
        import coredis.exceptions

        try:
            yield
        except (CancelledError, RuntimeError):
            raise SinkError(f"{self.place}: it is not open") from None
        except TimeoutError:
            raise SinkError(f"{self.place}: it did not answer in time") from None
        except (
            OSError,
            coredis.exceptions.RedisError,
            anyio.BrokenResourceError,
            anyio.EndOfStream,
        ) as error:
            raise SinkError(f"{self.place}: {self._clean(str(error) or type(error).__name__)}") from None
        except BaseExceptionGroup as group:  # the driver's own task group
            raise SinkError(f"{self.place}: {self._clean(str(group.exceptions[0]))}") from None

    def _clean(self, message: str) -> str:
        password = urlsplit(self._url).password
        for secret in {password, unquote(password)} if password else ():
            message = message.replace(secret, "***")
        return message.partition("\n")[0][:300]


async def _bounded(work: Callable[[Client], Awaitable[T]], to: Client) -> T:
    with anyio.fail_after(_PATIENCE):
        return await work(to)


def _name(id: str) -> str:
    return f"luthien_guard:key:{id}"


def _fields(key: Key) -> dict[str, str]:
    """What is None is not there."""
    row = dict(zip(_FIELDS, row_of(key), strict=True))
    return {
        **{name: str(value) for name, value in row.items() if value is not None},
        "mac": key.mac.hex(),
    }


def _key(fields: Mapping[str, str]) -> Key | None:
    if not fields:
        return None
    try:
        times = [_time(fields.get(name)) for name in ("created_at", "expires_at", "revoked_at")]
        words = fields["id"], bytes.fromhex(fields["mac"]), fields["name"], fields["scopes"]
        return key_of((*words, *times, fields["settings"]))
    except (KeyError, ValueError):
        raise SinkError(f"{_name(fields.get('id', '?'))} is no key") from None


def _time(text: str | None) -> float | None:
    return None if text is None else float(text)
