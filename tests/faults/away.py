"""A PostgreSQL in every kind of trouble while exchanges run, and what clients notice: `python -m tests.faults.away` prints,
for each trouble of 60 seconds, the time that 99 of 100 exchanges stay under, against the same with a sound database, and
how long after the end of the trouble the store has every row.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
from anyio import to_thread

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.delivery.storage import Storage
from luthien_guard.records import Record
from luthien_guard.sinks.postgresql import PostgresStore
from luthien_guard.store import Row, intact, payload_of
from tests.asgi_drive import ask, replay
from tests.faults.killed import REQUEST, STREAM, NoCalls
from tests.sinks.proxy import Proxy, proxied
from tests.sinks.servers import admin, postgresql_server

__all__ = ["TROUBLES", "Run", "played"]

RATE: Final = 50  # exchanges a second
Exchanges = Callable[[float], Awaitable[None]]  # that many "seconds" of them


class Told:
    """What the exchanges said: every record, as a sink of this process gets it."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def put(self, record: Record) -> None:
        self.records.append(record)


class Run:
    """One guard before one database. `times`: milliseconds of each exchange; `recovery`: seconds after the trouble until
    the store had all; `missing` and `other`: records that the store has not, or not as they were."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.recovery = 0.0
        self.missing = 0
        self.other = 0
        self.ledger: dict[str, int] = {}

    @property
    def p99(self) -> float:
        return sorted(self.times)[int(len(self.times) * 0.99)]


async def sound(proxy: Proxy, exchanges: Exchanges) -> None:
    await exchanges(1)


async def away_at_start(proxy: Proxy, exchanges: Exchanges) -> None:
    await exchanges(1)
    proxy.up()


async def away_for_a_while(proxy: Proxy, exchanges: Exchanges) -> None:
    proxy.down()
    await exchanges(1)
    proxy.up()


async def flapping(proxy: Proxy, exchanges: Exchanges) -> None:
    for at in range(10):
        await exchanges(0.1)
        proxy.down() if at % 2 == 0 else proxy.up()
    proxy.cut()


async def slow(proxy: Proxy, exchanges: Exchanges) -> None:
    await exchanges(1)
    proxy.commit = 0.0


async def silent(proxy: Proxy, exchanges: Exchanges) -> None:
    proxy.speaking.clear()
    await exchanges(1)
    proxy.speaking.set()


TROUBLES: Final = {
    trouble.__name__: trouble for trouble in (away_at_start, away_for_a_while, flapping, slow, silent)
}


async def played(
    name: str,
    url: str,
    exchanges_of: Callable[[Callable[[], Awaitable[None]]], Exchanges],
    *,
    commit: float,
    data: Path,
) -> Run:
    """One trouble on an empty database. `exchanges_of` says how many exchanges a part of the trouble is; `commit` is how
    many seconds a slow one takes."""
    run, told = Run(), Told()
    with proxied(url) as proxy:
        if name == "away_at_start":
            proxy.down()
        proxy.commit = commit if name == "slow" else 0.0
        patience = 1.0 + 2 * commit
        store = PostgresStore(proxy.url, patience=patience)
        guard = Guard([NoCalls()], store=store, durability="strict", data=data, sinks=[told])
        upstream = replay(b"".join(STREAM), status=200, content_type="text/event-stream")
        app = GuardMiddleware(upstream, guard=guard)

        async def exchange() -> None:
            began = time.perf_counter()
            reply = await ask(app, "/v1/chat/completions", REQUEST)
            run.times.append(1000 * (time.perf_counter() - began))
            assert reply.status == 200
            assert b"BLOCKED-BY-VERDICT" in reply.body

        async with guard:
            await TROUBLES.get(name, sound)(proxy, exchanges_of(exchange))
            ended = time.monotonic()
            await _stored(guard)
            run.recovery = time.monotonic() - ended
            assert guard.health == {}
            run.ledger = dict(guard.ledger())
    await to_thread.run_sync(_compared, url, told.records, run)
    return run


async def _stored(guard: Guard) -> None:
    assert isinstance(guard.storage, Storage)
    ledger = guard.ledger()
    while ledger["stored"] < ledger["accepted"]:
        await to_thread.run_sync(guard.storage.wait_carried, 1.0)
        ledger = guard.ledger()


def _compared(url: str, records: list[Record], run: Run) -> None:
    store = PostgresStore(url)
    store.open()
    try:
        there = {
            (row.call_id, row.seq): row
            for call_id in {record.call_id for record in records}
            for row in store.rows(call_id)
        }
        run.other = store.stats()["events"] - len(there)
    finally:
        store.close()
    for record in records:
        row = there.get((record.call_id, record.seq))
        run.missing += row is None
        run.other += row is not None and not _same(record, row)


def _same(record: Record, row: Row) -> bool:
    said = (record.at, record.type.value, record.policy, payload_of(record.details))
    return intact(row) and said == (row.at, row.event_type, row.policy, row.payload)


# -- for the figures ---------------------------------------------------------------------------------------------------


async def _measured(name: str, url: str, seconds: float) -> dict[str, Any]:
    def paced(exchange: Callable[[], Awaitable[None]]) -> Exchanges:
        async def exchanges(part: float) -> None:
            end = anyio.current_time() + part * seconds
            async with anyio.create_task_group() as tasks:
                while anyio.current_time() < end:
                    tasks.start_soon(exchange)
                    await anyio.sleep(1 / RATE)

        return exchanges

    database = f"luthien_{uuid4().hex[:12]}"
    await to_thread.run_sync(admin, url, f"CREATE DATABASE {database}", "SELECT 1")
    with tempfile.TemporaryDirectory() as data:
        where = urlsplit(url)._replace(path=f"/{database}").geturl()
        run = await played(name, where, paced, commit=5.0, data=Path(data))
    return {
        "exchanges": len(run.times),
        "p99_ms": round(run.p99, 2),
        "recovery_s": round(run.recovery, 1),
        "missing": run.missing,
        "other": run.other,
    }


def _side_by_side(trouble: str, url: str, seconds: float) -> dict[str, Any]:
    """The trouble, and at the same time another process whose database is sound: what else this machine does slows both."""
    environment = {**os.environ, "LUTHIEN_TEST_POSTGRES": url}
    command = [sys.executable, "-m", "tests.faults.away", "--seconds", str(seconds), "--only"]
    both = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        for name in (trouble, "sound")
    ]
    found, sound = (json.loads(each.communicate()[0]) for each in both)
    return {
        **found,
        "sound_p99_ms": sound["p99_ms"],
        "added_p99_ms": round(found["p99_ms"] - sound["p99_ms"], 2),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--only", choices=["sound", *TROUBLES])
    given = options.parse_args()
    with postgresql_server() as url:
        if given.only is not None:
            print(json.dumps(anyio.run(_measured, given.only, url, given.seconds)))
            return
        for trouble in TROUBLES:
            print(json.dumps({trouble: _side_by_side(trouble, url, given.seconds)}), flush=True)


if __name__ == "__main__":
    main()
