"""What a Redis server and its driver fail with: as SinkErrors without the password; and what one connects anew after."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio

from luthien_guard.errors import SinkError

__all__ = ["Closed", "left_if_replica", "place_of", "told"]


class Closed(SinkError):
    """It is not open, or not any more."""


def place_of(url: str) -> str:
    """The server and the database, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def told(url: str) -> Generator[None]:
    """Failures as SinkErrors that say which server and what."""
    import coredis.exceptions

    place = place_of(url)
    try:
        yield
    except (CancelledError, RuntimeError):
        raise Closed(f"{place}: it is not open") from None
    except TimeoutError:
        raise SinkError(f"{place}: it did not answer in time") from None
    except (
        OSError,
        coredis.exceptions.RedisError,
        anyio.BrokenResourceError,
        anyio.EndOfStream,
    ) as error:
        raise SinkError(f"{place}: {_clean(url, str(error) or type(error).__name__)}") from None
    except BaseExceptionGroup as group:  # the driver's own task group
        raise SinkError(f"{place}: {_clean(url, str(group.exceptions[0]))}") from None


@contextmanager
def left_if_replica(client: Any) -> Generator[None]:
    """Another server took over when this one says that it is only read: whoever connects anew finds that one. The driver
    would keep the connection."""
    import coredis.exceptions

    try:
        yield
    except coredis.exceptions.ResponseError as error:
        # of a script, Redis 6 says so within its own words
        if isinstance(error, coredis.exceptions.ReadOnlyError) or "-READONLY " in str(error):
            client.connection_pool.disconnect()
        raise


def _clean(url: str, message: str) -> str:
    password = urlsplit(url).password
    for secret in {password, unquote(password)} if password else ():
        message = message.replace(secret, "***")
    return message.partition("\n")[0][:300]
