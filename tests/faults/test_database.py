"""A PostgreSQL that is away, flaps, or falls silent while exchanges run: clients see nothing of it, and when it is back it
has every row, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.delivery.storage import Storage
from luthien_guard.sinks.postgresql import PostgresStore
from luthien_guard.store import Row, intact
from tests.asgi_drive import ask, replay
from tests.faults.killed import REQUEST, STREAM, NoCalls
from tests.sinks.proxy import Proxy, proxied

pytestmark = pytest.mark.anyio

Trouble = Callable[[Proxy, Callable[[int], Awaitable[None]]], Awaitable[None]]


async def away_at_start(proxy: Proxy, exchanges: Callable[[int], Awaitable[None]]) -> None:
    await exchanges(20)


async def cut(proxy: Proxy, exchanges: Callable[[int], Awaitable[None]]) -> None:
    await exchanges(10)
    proxy.cut()
    await exchanges(10)


async def flapping(proxy: Proxy, exchanges: Callable[[int], Awaitable[None]]) -> None:
    for _ in range(10):
        await exchanges(3)
        proxy.cut()


async def silent(proxy: Proxy, exchanges: Callable[[int], Awaitable[None]]) -> None:
    await exchanges(10)
    proxy.speaking.clear()
    await exchanges(10)


@pytest.mark.parametrize("trouble", [away_at_start, cut, flapping, silent])
async def test_clients_see_nothing_and_the_store_has_all(
    trouble: Trouble, database: str, tmp_path: Path
) -> None:
    with proxied(database) as proxy:
        if trouble is away_at_start:
            proxy.speaking.clear()
        store = PostgresStore(proxy.url, patience=1.0)
        guard = Guard([NoCalls()], store=store, durability="strict", data=tmp_path)
        assert isinstance(guard.storage, Storage)
        upstream = replay(b"".join(STREAM), status=200, content_type="text/event-stream")
        app = GuardMiddleware(upstream, guard=guard)
        calls: list[str] = []

        async def exchanges(count: int) -> None:
            for _ in range(count):
                reply = await ask(app, "/v1/chat/completions", REQUEST)
                assert reply.status == 200
                assert b"BLOCKED-BY-VERDICT" in reply.body
                calls.append(str(reply.header("x-luthien-call-id")))

        with anyio.fail_after(120):
            async with guard:
                await trouble(proxy, exchanges)
                proxy.speaking.set()
                ledger = guard.ledger()
                while ledger["stored"] < ledger["accepted"]:
                    await anyio.to_thread.run_sync(guard.storage.wait_carried, 1.0)
                    ledger = guard.ledger()
                assert (ledger["dropped"], ledger["conflicts"]) == (0, 0)
                assert guard.health == {}
        rows = await anyio.to_thread.run_sync(_rows, database, calls)
    assert len(rows) == ledger["accepted"]
    assert all(intact(row) for row in rows)
    assert len({(row.call_id, row.seq) for row in rows}) == len(rows)


def _rows(url: str, calls: list[str]) -> list[Row]:
    store = PostgresStore(url)
    store.open()
    try:
        return [row for call_id in calls for row in store.rows(call_id)]
    finally:
        store.close()
