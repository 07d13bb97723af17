"""One connection on a thread of its own, bounded in time, made anew after it broke; every failure is a SinkError."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import CancelledError
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import anyio

from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.sinks.loop_thread import LoopThread
from luthien_guard.sinks.postgresql.driver import Database

__all__ = ["COMMAND", "Connection", "checked", "connected", "is_broken", "told", "where"]

T = TypeVar("T")

COMMAND: Final = 30.0  # seconds for one command
_CONNECT: Final = 5.0  # seconds
_SLACK: Final = 5.0  # what a whole piece of work may take longer than one command
# Classes of failures after which to connect anew: the connection failed; the server only reads, since another one took
# over; the server shuts down.
_BROKEN: Final = ("08", "25", "57")
# The server ends what we no longer wait for, also when we are gone: else a lock could outlive its holder. By SET, for
# poolers refuse what they do not know among the start-up parameters.
_SETTINGS: Final = (
    "SET statement_timeout = {0}; SET lock_timeout = 10000; SET idle_in_transaction_session_timeout = 60000; "
    "SET client_min_messages = warning"
)


def checked(url: str) -> str:
    """The URL, if it can be one of PostgreSQL. Raises ConfigError, without the password."""
    try:
        parts = urlsplit(url)
        ports = [urlsplit(f"//{host}").port for host in parts.netloc.rpartition("@")[2].split(",")]
        fine = 0 not in ports and parts.path.strip("/") != "" and not parts.fragment
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError("a URL like postgresql://user:password@host:5432/database is expected")
    return url


def where(url: str) -> str:
    """Which database, for messages: no user, no password, no parameters."""
    parts = urlsplit(url)
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def connected(url: str, patience: float = COMMAND) -> Database:
    """A connection with time-outs on both sides, of `patience` seconds."""
    import asyncpg  # type: ignore[import-untyped, unused-ignore]

    timeouts: dict[str, Any] = {"timeout": min(patience, _CONNECT), "command_timeout": patience}
    db: Database = await asyncpg.connect(url, **timeouts)
    try:
        await db.execute(_SETTINGS.format(int(patience * 1000)))
    except BaseException:
        db.terminate()
        raise
    return db


@contextlib.contextmanager
def told(url: str) -> Generator[None]:
    """Failures of the driver, of the network and of the server as SinkErrors that say which database and what."""
    import asyncpg  # type: ignore[import-untyped, unused-ignore]

    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise _failure(url, _cause(error)) from None
    except (OSError, UnicodeError, ValueError) as error:
        raise _failure(url, error) from None
    except CancelledError:
        raise SinkError(f"{where(url)}: it was closed meanwhile") from None
    except RuntimeError as error:  # the thread is stopped
        raise SinkError(f"{where(url)}: {error}") from None


def is_broken(error: BaseException) -> bool:
    """Whether the connection is of no more use after this failure. A server that refused something is still there."""
    import asyncpg  # type: ignore[import-untyped, unused-ignore]

    if not isinstance(error, asyncpg.PostgresError):
        return True
    return (getattr(error, "sqlstate", None) or "08")[:2] in _BROKEN


def _cause(error: BaseException) -> BaseException:
    """What ended the connection, where the driver only says that it cannot end its transaction without one."""
    import asyncpg  # type: ignore[import-untyped, unused-ignore]

    failures = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
    while isinstance(error, asyncpg.InterfaceError) and isinstance(error.__context__, failures):
        error = error.__context__
    return error


def _failure(url: str, error: BaseException) -> SinkError:
    if isinstance(error, TimeoutError):
        return SinkError(f"{where(url)}: it did not answer in time")
    # of the server's failures the message alone: the details quote the row
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    return SinkError(f"{where(url)}: {_clean(url, message)}")


def _clean(url: str, message: str) -> str:
    parts = urlsplit(url)
    quoted = parts.netloc.rpartition("@")[0].partition(":")[2]
    secrets = [quoted, unquote(quoted), *parse_qs(parts.query).get("password", [])]
    for secret in filter(None, secrets):
        message = message.replace(secret, "***")
    return message.partition("\n")[0][:300]


class Connection:
    """`prepare` is called with every new connection before anything else; `patience` is how many seconds a command may
    take."""

    def __init__(
        self, url: str, prepare: Callable[[Database], Awaitable[None]], patience: float = COMMAND
    ) -> None:
        self.url = url
        self._prepare = prepare
        self._patience = patience
        self._thread = LoopThread("luthien-guard-postgresql")
        # A reader may have given up waiting: its command still runs when the next one comes.
        self._one = threading.Lock()
        self._db: Database | None = None

    def open(self) -> None:
        if not self._thread.running:
            self._thread.start()
            try:
                self.run(_nothing)
            except SinkError:
                self._thread.stop()
                raise

    def close(self) -> None:
        if self._thread.running:
            self._thread.call(self._closed)
            self._thread.stop()

    def run(self, work: Callable[[Database], Awaitable[T]], *, seconds: float | None = None) -> T:
        """Do it there. Blocks, for a little more than `seconds` (or the patience) at most. Raises SinkError."""
        with self._one, told(self.url):
            return self._thread.call(lambda: self._bounded(work, (seconds or self._patience) + _SLACK))

    async def _bounded(self, work: Callable[[Database], Awaitable[T]], seconds: float) -> T:
        try:
            with anyio.fail_after(seconds):
                return await work(await self._live())
        except BaseException as error:
            if is_broken(error):
                self._dropped()
            raise

    async def _live(self) -> Database:
        if self._db is None or self._db.is_closed():
            self._db = await connected(self.url, self._patience)
            try:
                await self._prepare(self._db)
            except BaseException:
                self._dropped()
                raise
        return self._db

    def _dropped(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.terminate()

    async def _closed(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with anyio.move_on_after(2):  # a farewell to a server that may hang
                with contextlib.suppress(SinkError), told(self.url):
                    await db.close()
            db.terminate()


async def _nothing(_: Any) -> None:
    pass
