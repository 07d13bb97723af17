"""What stores, disks and drivers do that nobody announced: the journal lives on, and counts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.delivery.journal import Journal
from luthien_guard.delivery.quarantine import Quarantine
from luthien_guard.delivery.storage import Storage
from luthien_guard.errors import SinkError
from luthien_guard.query import audit
from luthien_guard.records import EventType, Record
from luthien_guard.sinks.memory import MemoryStore
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.store import Row, Written
from tests.asgi_drive import ask, replay
from tests.delivery.stores import ListStore

pytestmark = pytest.mark.anyio


def record(seq: int, **details: object) -> Record:
    return Record("call-1", seq, 1.0, EventType.POLICY_RECORD, None, details)


class Surprising(ListStore):
    """Its driver raises what is no SinkError, so many times."""

    surprises = 1

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        if self.surprises:
            self.surprises -= 1
            raise KeyError("a bug in the driver")
        return super().write(rows, durable=durable)


def test_a_store_that_raises_anything_does_not_end_the_journal() -> None:
    store = Surprising()
    journal = Journal(store)
    journal.start()
    journal.put(record(0))
    store.wait(1)
    assert journal.stop()
    assert journal.ledger.snapshot()["in_memory"] == 0


def test_a_record_that_cannot_be_made_a_row_is_counted_and_the_next_is_written() -> None:
    store = ListStore()
    journal = Journal(store)
    journal.start()

    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no words")

    journal.put(record(0, reason=Mute()))
    journal.put(record(1))
    store.wait(1)
    assert journal.stop()
    ledger = journal.ledger.snapshot()
    assert (ledger["stored"], ledger["dropped"], ledger["in_memory"]) == (2, 0, 0)


def test_a_row_for_which_the_driver_has_no_words_is_poison_and_the_next_is_written(tmp_path: Path) -> None:
    class Picky(ListStore):
        def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
            if any(row.seq == 1 for row in rows):
                raise UnicodeError("a driver that cannot encode this")
            return super().write(rows, durable=durable)

    store = Picky()
    quarantine = Quarantine(tmp_path / "not there yet" / "quarantine.jsonl")
    journal = Journal(store, quarantine=quarantine)
    journal.start()
    for seq in range(3):
        journal.put(record(seq))
    store.wait(2)
    assert journal.stop(20)
    assert quarantine.count == 1
    assert journal.ledger.snapshot()["dropped.poison"] == 1


def test_a_remote_driver_that_raises_anything_does_not_end_the_forwarder(tmp_path: Path) -> None:
    store = Surprising(remote=True)
    storage = Storage(store, tmp_path)
    storage.start()
    storage.journal.put(record(0))
    store.wait(1)
    storage.stop()
    assert storage.ledger.snapshot()["stored"] == 1


async def test_no_client_can_end_the_record_with_the_name_of_its_session(tmp_path: Path) -> None:
    guard = Guard(store=f"sqlite:///{tmp_path}/guard.db", durability="strict")
    app = GuardMiddleware(replay(b'{"choices":[]}', status=200, content_type="application/json"), guard=guard)
    # JSON in a string: no parser of ours reads it first.
    user = json.dumps({"session_id": "\ud800", "user_id": "\0"})
    body = {"model": "m", "messages": [], "metadata": {"user_id": user}}
    async with guard:
        for _ in range(2):
            reply = await ask(app, "/v1/chat/completions", json.dumps(body).encode())
            assert reply.status == 200, reply.body
        await guard.delivery.durable()
        calls = await guard.query.calls()
        assert [call.outcome for call in calls] == ["success", "success"]


def take_away(folder: Path) -> None:
    for path in folder.glob("calls*"):
        if path.is_file():
            path.unlink()
    (folder / "calls").mkdir()  # and none can be made


@pytest.mark.skipif(os.name == "nt", reason="a file that is open cannot be deleted there")
@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
async def test_a_file_that_is_taken_away_is_noticed_and_made_anew(tmp_path: Path, scheme: str) -> None:
    """Its writer could go on for ever, into a file that has no name any more."""
    storage = Storage(f"{scheme}:///{tmp_path}/calls", durability="strict")
    await anyio.to_thread.run_sync(storage.start)
    try:
        for call in ("call-1", "call-2", "call-3"):
            storage.journal.put(Record(call, 0, 1.0, EventType.REQUEST_RECEIVED, None, {}))
            await storage.journal.durable()
            if call == "call-1":
                take_away(tmp_path)
                storage.journal.patience = 0.1
                storage.journal.put(Record("call-0", 0, 1.0, EventType.VERDICT, None, {}))
                with pytest.raises(SinkError):
                    await storage.journal.durable()
                storage.journal.patience = 20
                (tmp_path / "calls").rmdir()
    finally:
        await anyio.to_thread.run_sync(storage.stop)
    reader = storage.reader()
    reader.open()
    assert [reader.rows(call) != [] for call in ("call-1", "call-2", "call-3")] == [False, True, True]
    reader.close()


class Away(SqliteStore):
    """Not on this machine, and sometimes not there."""

    remote = True
    problem: str | None = None

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        if self.problem is not None:
            raise SinkError(self.problem)
        return super().write(rows, durable=durable)


def test_what_is_spooled_of_a_call_that_is_pruned_meanwhile_is_dropped_and_counted(tmp_path: Path) -> None:
    storage = Storage(store := Away(tmp_path / "s.db"), tmp_path / "data")
    storage.start()
    storage.journal.put(record(0))
    assert storage.wait_carried(20)
    store.problem = "away"
    storage.journal.put(record(1))
    other = SqliteStore(tmp_path / "s.db")
    other.open()
    assert other.prune(before=1e12) == 1
    storage.journal.put(Record("call-1", 2, 2.0, EventType.CLOSED, None, {"outcome": "success"}))
    storage.journal.put(Record("call-2", 0, 3.0, EventType.CLOSED, None, {"outcome": "success"}))
    store.problem = None
    storage.stop(20)
    ledger = storage.ledger.snapshot()
    assert (ledger["stored"], ledger["dropped.pruned"], ledger["spooled"], ledger["in_memory"]) == (
        2,
        2,
        0,
        0,
    )
    assert audit(other).findings == []
    assert other.rows("call-1") == []
    assert len(other.rows("call-2")) == 1
    other.close()


async def test_what_memory_had_to_forget_is_counted() -> None:
    guard = Guard(store=MemoryStore(max_bytes=500_000))
    app = GuardMiddleware(replay(b"{}", status=200, content_type="application/json"), guard=guard)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 20_000}]}).encode()
    async with guard:
        for _ in range(60):
            await ask(app, "/v1/chat/completions", body)
            await guard.delivery.durable()
        ledger = guard.ledger()
        assert ledger["dropped"] == ledger["dropped.evicted"] > 0
        assert ledger["stored"] == (await guard.query.stats())["events"]
        assert (
            ledger["accepted"]
            == ledger["stored"] + ledger["spooled"] + ledger["in_memory"] + ledger["dropped"]
        )
        assert (await guard.query.verify()) == []
