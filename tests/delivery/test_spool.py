"""The spool against a list: appended, carried, crashed, damaged."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from luthien_guard.delivery.forwarder import Forwarder
from luthien_guard.delivery.ledger import Ledger
from luthien_guard.delivery.quarantine import Quarantine
from luthien_guard.delivery.spool import Spool
from luthien_guard.delivery.storage import Storage
from luthien_guard.errors import SinkError
from luthien_guard.records import EventType, Record
from luthien_guard.store import Row, chained, intact
from tests.delivery.stores import ListStore


class SpoolMachine(RuleBasedStateMachine):
    """`model` is what was acknowledged, in order. Whatever happens, spool plus store hold exactly that."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "s.spool"
        self.store = ListStore(remote=True)
        self.model: list[Row] = []
        self.next = 0
        self.spool = Spool(self.path)
        self.spool.open()

    @rule(count=st.integers(1, 5), durable=st.booleans())
    def append(self, count: int, durable: bool) -> None:
        fresh = []
        for _ in range(count):
            seq = self.next
            self.next += 1
            fresh.append(chained("c", seq, float(seq), "policy.record", None, "{}", ""))
        self.spool.write(fresh, durable=durable)
        self.model += fresh

    @rule(again=st.integers(0, 3))
    def append_again(self, again: int) -> None:
        """At least once: a row that comes twice is there once."""
        self.spool.write([row for _, row in self._waiting(again)])

    def _waiting(self, limit: int = 10_000) -> list[tuple[int, Row]]:
        return [(position, row) for position, row in self.spool.peek(limit) if intact(row)]

    @rule(limit=st.integers(1, 4))
    def carry(self, limit: int) -> None:
        found = self._waiting(limit)
        try:
            self.store.write([row for _, row in found])
        except SinkError:
            return
        self.spool.forget([position for position, _ in found])

    @rule(limit=st.integers(1, 4))
    def crash_between_store_and_spool(self, limit: int) -> None:
        try:
            self.store.write([row for _, row in self._waiting(limit)])
        except SinkError:
            pass
        self.restart()

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = Spool(self.path)
        self.spool.open()

    @rule()
    def primary_goes_away_or_comes_back(self) -> None:
        self.store.problem = None if self.store.problem else "away"

    @precondition(lambda self: len(self.model) > 20)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """A byte of a page turns over while the process is down: whatever can still be read is kept, and no row is
        ever made up."""
        self.spool.close()
        raw = bytearray(self.path.read_bytes())
        at = data.draw(st.integers(100, len(raw) - 1))
        raw[at] ^= 0xFF
        self.path.write_bytes(bytes(raw))
        self.spool = Spool(self.path)
        self.spool.open()
        kept = {*(row for _, row in self._waiting()), *self.store.kept.values()}
        self.model = [row for row in self.model if row in kept]

    @invariant()
    def nothing_lost_nothing_made_up(self) -> None:
        waiting = [row for _, row in self._waiting()]
        assert set(self.model) == {*waiting, *self.store.kept.values()}
        assert len(self.spool) >= len(waiting)

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def rows(count: int) -> list[Row]:
    return [chained("c", seq, float(seq), "policy.record", None, "{}", "") for seq in range(count)]


def test_the_forwarder_carries_all_when_the_store_comes_back(tmp_path: Path) -> None:
    spool, store, ledger = Spool(tmp_path / "s"), ListStore(remote=True), Ledger()
    store.problem = "connection refused"
    spool.open()
    spool.write(rows(1234))
    carrier = Forwarder(spool, store, ledger, Quarantine())
    carrier.start()
    try:
        assert not store.kept
        store.problem = None
        store.wait(1234)
    finally:
        carrier.stop(10)
    counts = ledger.snapshot()
    assert (counts["accepted"], counts["stored"], counts["spooled"]) == (1234, 1234, 0)
    assert spool.peek() == []


def test_a_poison_row_does_not_hold_up_the_spool(tmp_path: Path) -> None:
    spool, store, ledger = Spool(tmp_path / "s"), ListStore(remote=True), Ledger()
    store.poison = lambda row: row.seq in (3, 7)
    spool.open()
    spool.write(rows(10))
    carrier = Forwarder(spool, store, ledger, Quarantine(tmp_path / "q"))
    carrier.start()
    store.wait(8)
    carrier.stop(10)
    counts = ledger.snapshot()
    assert (counts["stored"], counts["dropped.poison"], counts["spooled"]) == (8, 2, 0)
    assert len((tmp_path / "q").read_text().splitlines()) == 2


def test_large_rows_leave_the_spool_a_few_at_a_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s.spool")
    spool.open()
    rows = [chained("c", seq, 1.0, "usage", None, '"' + "x" * 1_000_000 + '"', "") for seq in range(40)]
    spool.write(rows)
    carried: list[Row] = []
    while found := spool.peek():
        assert len(found) < 20
        carried += [row for _, row in found]
        spool.forget([position for position, _ in found])
    assert carried == rows
    spool.close()


def test_a_spool_is_full_by_what_waits_in_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", max_bytes=60_000)
    spool.open()
    assert not spool.full
    spool.write([chained("c", seq, 1.0, "x", None, '{"a":"' + "x" * 1000 + '"}', "") for seq in range(100)])
    assert spool.full
    spool.forget([position for position, _ in spool.peek(1000)])
    assert not spool.full


def big(first: int, count: int) -> list[Row]:
    payload = '{"a":"' + "x" * 1000 + '"}'
    return [chained("c", seq, 1.0, "x", None, payload, "") for seq in range(first, first + count)]


def damaged(path: Path) -> None:
    """Most of the file turns into nonsense while it is open."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(raw) // 4)
        file.write(b"\xff" * (len(raw) // 2))


def test_a_file_that_is_damaged_while_it_is_used_is_put_aside_and_what_went_is_counted(
    tmp_path: Path,
) -> None:
    storage = Storage(store := ListStore(remote=True, path=tmp_path / "s"), tmp_path)
    spool = storage._spool
    assert spool is not None
    store.problem = "away"
    storage.start()
    facts = [Record("c", seq, 1.0, EventType.VERDICT, None, {"a": "x" * 1000}) for seq in range(6000)]
    for fact in facts[:-1]:
        storage.journal.put(fact)
    while storage.ledger.snapshot()["in_memory"]:
        storage.wait_carried(0.05)
    damaged(spool.path)
    store.problem = None
    storage.journal.put(facts[-1])
    while storage.ledger.snapshot()["spooled"] or not spool.salvaged:
        storage.wait_carried(0.05)
    storage.stop(60)
    counts = storage.ledger.snapshot()
    assert 0 < counts["dropped.damaged"] < 6000
    assert spool.salvaged > 0
    assert counts["stored"] == len(store.kept) == 6000 - counts["dropped"]
    assert (counts["spooled"], counts["in_memory"]) == (0, 0)
    assert len(list(tmp_path.glob("*.damaged-*"))) >= 1, "nothing is thrown away"


def test_a_spool_for_which_there_is_no_room_any_more_is_made_when_there_is(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    spool.open()
    spool.write(big(0, 6000))
    damaged(spool.path)
    in_the_way = tmp_path / "s-journal"  # a new file cannot be made beside a folder of this name
    in_the_way.mkdir()
    for _ in range(3):
        with pytest.raises(SinkError, match="a new one cannot be made"):
            spool.peek(6000)
    in_the_way.rmdir()
    assert spool.write(big(6000, 1)).stored == 1
    kept = [row for _, row in spool.peek(10_000)]
    assert big(6000, 1)[0] in kept
    assert len(kept) == len(spool) == spool.salvaged + 1
    assert spool.lost() == 6000 - spool.salvaged
    assert spool.lost() == 0
    spool.close()


def test_traffic_never_asks_the_file_whether_there_is_room(tmp_path: Path) -> None:
    """Whoever writes the file may be waiting for the disk, and traffic would wait with him."""
    store = ListStore(remote=True, path=tmp_path / "s")
    store.problem = "away"
    storage = Storage(store, tmp_path)
    storage.start()
    storage.journal.put(Record("call-1", 0, 1.0, EventType.REQUEST_RECEIVED, None, {}))
    storage.stop(0.1)
    assert storage.journal.has_room(EventType.ACTIVITY), "the file is closed: nobody can be asked"
    storage.journal.put(Record("call-1", 1, 1.0, EventType.RESPONSE_RECEIVED, None, {}))
    assert storage.ledger.snapshot()["degraded"] == 0
