"""Records: how many a second the embedded store sustains, against the bare driver doing the same inserts; decisions a
second that wait for the disk; and what recording adds to a chunk."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio

from benchmarks.engine import run
from benchmarks.table import interleaved, report
from benchmarks.traffic import Reads
from luthien_guard import Guard, GuardMiddleware
from luthien_guard.delivery.journal import Journal
from luthien_guard.records import EventType, Record
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.store import EVENT_COLUMNS, Row
from luthien_guard.testing.sinks import exchange_rows
from tests.asgi_drive import ask, replay
from tests.delivery.stores import ListStore
from tests.faults.killed import REQUEST, STREAM, NoCalls

COUNT = 20_000
BATCH = 500


def rows() -> list[Row]:
    return [
        row
        for number in range(COUNT // 4)
        for row in exchange_rows(number, "a record of the usual size " * 8)
    ]


def written(make: Callable[[Path], Callable[[Sequence[Row]], Any]]) -> Callable[[], float]:
    """Rows a second."""
    given = rows()

    def once() -> float:
        with tempfile.TemporaryDirectory() as folder:
            write = make(Path(folder) / "db")
            began = time.perf_counter()
            for at in range(0, len(given), BATCH):
                write(given[at : at + BATCH])
            return len(given) / (time.perf_counter() - began)

    return once


def bare(path: Path) -> Callable[[Sequence[Row]], Any]:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    names = ", ".join(EVENT_COLUMNS)
    db.execute(f"CREATE TABLE e (position INTEGER PRIMARY KEY, {names}, UNIQUE (call_id, seq))")
    insert = f"INSERT INTO e ({names}) VALUES ({', '.join('?' * len(EVENT_COLUMNS))})"

    def write(given: Sequence[Row]) -> None:
        db.execute("BEGIN")
        db.executemany(insert, [tuple(getattr(row, name) for name in EVENT_COLUMNS) for row in given])
        db.execute("COMMIT")

    return write


def store(path: Path) -> Callable[[Sequence[Row]], Any]:
    made = SqliteStore(path)
    made.open()
    return made.write


def journalled() -> float:
    """Records a second from `put` to the file, with their hashes and JSON."""
    with tempfile.TemporaryDirectory() as folder:
        made = SqliteStore(Path(folder) / "db")
        made.open()
        journal = Journal(made, max_records=10**9)
        details = {"text": "a record of the usual size " * 8}
        began = time.perf_counter()
        journal.start()
        for number in range(COUNT):
            journal.put(Record(f"call-{number // 4}", number % 4, 1.0, EventType.POLICY_RECORD, "p", details))
        journal.stop(60)
        spent = time.perf_counter() - began
        made.close()
    return COUNT / spent


def decisions(waiting: int) -> Callable[[], float]:
    """Decisions a second that are on disk before anybody goes on, with so many exchanges at once."""

    async def many() -> float:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            made = SqliteStore(Path(folder) / "db")
            made.open()
            journal = Journal(made, strict=True)
            journal.start()

            async def exchange(number: int) -> None:
                for seq in range(20):
                    journal.put(Record(f"call-{number}", seq, 1.0, EventType.VERDICT, "p", {"reason": "no"}))
                    await journal.durable()

            began = time.perf_counter()
            async with anyio.create_task_group() as tasks:
                for number in range(waiting):
                    tasks.start_soon(exchange, number)
            spent = time.perf_counter() - began
            journal.stop()
            made.close()
        return waiting * 20 / spent

    return lambda: anyio.run(many)


def slowest(hung: bool) -> Callable[[], float]:
    """Milliseconds that 99 of 100 exchanges stay under, with a remote store that answers, or hangs."""

    async def many() -> float:
        with tempfile.TemporaryDirectory() as folder:
            remote = ListStore(remote=True)
            if hung:
                remote.gate.clear()
            guard = Guard([NoCalls()], store=remote, durability="strict", data=folder)
            app = GuardMiddleware(
                replay(b"".join(STREAM), status=200, content_type="text/event-stream"), guard=guard
            )
            times: list[float] = []
            async with guard:
                for _ in range(300):
                    began = time.perf_counter()
                    await ask(app, "/v1/chat/completions", REQUEST)
                    times.append(1000 * (time.perf_counter() - began))
                remote.gate.set()
        return sorted(times)[int(len(times) * 0.99)]

    return lambda: anyio.run(many)


def main() -> None:
    away = {"store answers": slowest(False), "store hangs": slowest(True)}
    report("an exchange in strict mode, p99", "ms", interleaved(away, rounds=3), baseline="store answers",
           note="target: min-base <= 10")  # fmt: skip
    variants = {"bare driver": written(bare), "store": written(store), "journal and store": journalled}
    report(
        "records a second",
        "1/s",
        interleaved(variants, rounds=3),
        baseline="bare driver",
        note="target: 20,000",
    )
    waits = {f"{number} exchanges at once": decisions(number) for number in (1, 10, 100)}
    report("durable decisions a second", "1/s", interleaved(waits, rounds=3), baseline="1 exchanges at once",
           note="target: 2,000 with group commit")  # fmt: skip
    folder = tempfile.mkdtemp()
    for chunks, exchanges in ((500, 20), (2000, 5)):  # what an exchange costs is shared by its chunks
        found = {
            "without a store": run([Reads()], chunks, exchanges),
            "with a store": run([Reads()], chunks, exchanges, store=f"sqlite:///{folder}/{chunks}.db"),
        }
        report(
            f"recording, per chunk of {chunks}",
            "us of CPU",
            interleaved(found),
            baseline="without a store",
            note="target: <= 1.15",
        )


if __name__ == "__main__":
    main()
