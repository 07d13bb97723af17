"""`postgresql://...`: NOTIFY of ids and kinds, never of content. Driver: asyncpg (the extra `postgresql`)."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final
from uuid import uuid4

import anyio
from anyio.to_thread import run_sync

from luthien_guard.errors import SinkError
from luthien_guard.pubsub import Notice
from luthien_guard.sinks.loop_thread import LoopThread, finished
from luthien_guard.sinks.postgresql.connection import Connection, checked, connected, told, where
from luthien_guard.sinks.postgresql.driver import Database
from luthien_guard.sinks.pubsub.mailbox import Mailbox, gap

__all__ = ["PostgresPubSub", "from_url"]

_CHANNEL: Final = "luthien_guard"
_PAYLOAD: Final = 7900  # bytes; PostgreSQL takes less than 8000
_NAME: Final = 200  # characters of a policy's name: it is for people, the store has the whole
_ALIVE: Final = 30.0  # seconds after which a silent connection is asked whether it is one


def from_url(url: str) -> PostgresPubSub:
    """The same URLs as the store's. Raises ConfigError."""
    import asyncpg  # type: ignore[import-untyped, unused-ignore]  # noqa: F401

    return PostgresPubSub(checked(url))


class PostgresPubSub:
    """Implements `PubSub`. The server keeps no notices: whoever resumes gets a GAP first, and reads the store. `size`
    notices may wait for a subscriber."""

    def __init__(self, url: str, *, size: int = 10_000) -> None:
        self._url = url
        self._size = size
        self._sender = Connection(url, _unprepared)
        self._listeners = LoopThread("luthien-guard-listen")

    def open(self) -> None:
        self._sender.open()

    def close(self) -> None:
        """Ends the subscriptions."""
        self._sender.close()
        self._listeners.stop()

    def publish(self, notices: Sequence[Notice]) -> None:
        payloads = list(_payloads(notices))

        async def notify(db: Database) -> None:
            await db.execute("SELECT pg_notify($1, p) FROM unnest($2::text[]) p", _CHANNEL, payloads)

        self._sender.run(notify)

    @asynccontextmanager
    async def subscribe(self, *, after: str | None = None) -> AsyncGenerator[AsyncIterator[Notice]]:
        mailbox = Mailbox(self._size)
        if after is not None:
            mailbox.put([gap("")])
        await run_sync(self._listeners.start)
        ready: Future[None] = Future()
        with told(self._url):
            task = self._listeners.promised(partial(_listening, self._url, mailbox, ready))
        try:
            with told(self._url):
                await finished(ready)
            yield mailbox
        finally:
            task.cancel()


async def _listening(url: str, mailbox: Mailbox, ready: Future[None]) -> None:
    """Until it is cancelled."""
    try:
        db = await connected(url)
        try:
            await _listen(url, db, mailbox)
            ready.set_result(None)
            await _alive(db)
        finally:
            db.terminate()
    except BaseException as error:
        if not ready.done():
            ready.set_exception(error if isinstance(error, Exception) else CancelledError())
        mailbox.end(_said(url, error))
        raise


async def _listen(url: str, db: Database, mailbox: Mailbox) -> None:
    def heard(_db: Any, _pid: int, _channel: str, payload: str) -> None:
        mailbox.put(_notices(payload))

    db.add_termination_listener(lambda _: mailbox.end(SinkError(f"{where(url)}: the connection was lost")))
    await db.add_listener(_CHANNEL, heard)


async def _alive(db: Database) -> None:
    """A connection whose other end vanished says nothing, as one where nothing happens."""
    while True:
        await anyio.sleep(_ALIVE)
        await db.execute("SELECT 1", timeout=_ALIVE)


def _said(url: str, error: BaseException) -> SinkError | None:
    """None for the end that was asked for."""
    if not isinstance(error, Exception):
        return None
    try:
        with told(url):
            raise error
    except SinkError as known:
        return known


async def _unprepared(_: Any) -> None:
    pass


def _payloads(notices: Sequence[Notice]) -> Iterator[str]:
    """JSON lists of notices, as many in one as it holds."""
    group: list[str] = []
    # ids are of this hub, and must differ also where a row is told of twice
    start = uuid4().hex[:12]
    for n, each in enumerate(notices):
        policy = None if each.policy is None else each.policy[:_NAME]
        text = json.dumps([f"{start}-{n}", each.call_id, each.seq, each.at, each.event_type, policy])
        if sum(map(len, group)) + len(group) + len(text) + 2 > _PAYLOAD:
            yield f"[{','.join(group)}]"
            group = []
        group.append(text)
    if group:
        yield f"[{','.join(group)}]"


def _notices(payload: str) -> list[Notice]:
    """Others may send on the channel what they like: what is no list of notices is a gap."""
    try:
        return [
            Notice(str(id), str(call_id), int(seq), float(at), str(event_type), policy and str(policy))
            for id, call_id, seq, at, event_type, policy in json.loads(payload)
        ]
    except (ValueError, TypeError):
        return [gap("")]
