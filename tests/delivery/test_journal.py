"""The journal: order, groups, full queues, stores that fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from luthien_guard.delivery import Delivery
from luthien_guard.delivery.journal import Journal
from luthien_guard.delivery.latest import Latest
from luthien_guard.delivery.quarantine import Quarantine
from luthien_guard.delivery.writers import Writer
from luthien_guard.errors import SinkError
from luthien_guard.records import EventType, Record
from luthien_guard.store import chained
from tests.delivery.stores import ListStore
from tests.rig.waiting import eventually


def fact(seq: int, type: EventType = EventType.POLICY_RECORD, call: str = "c", **details: Any) -> Record:
    return Record(call, seq, 1.0 + seq, type, "p", details)


@contextmanager
def journal(store: ListStore, **options: Any) -> Iterator[Journal]:
    made = Journal(store, backoff=(0.001,), **options)
    made.start()
    try:
        yield made
    finally:
        store.gate.set()
        store.problem = None
        made.stop(20)


class Stored:
    """What a delivery asks of its storage."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.ledger = journal.ledger
        self.writer = Writer(Path("nowhere"))


def balanced(journal: Journal) -> dict[str, int]:
    counts = dict(journal.ledger.snapshot())
    assert (
        counts["accepted"] == counts["stored"] + counts["spooled"] + counts["in_memory"] + counts["dropped"]
    )
    return counts


def test_a_line_that_a_dying_process_left_in_the_quarantine_spoils_no_other(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    row = chained("c", 0, 1.0, "policy.record", None, "{}", "")
    quarantine.put(row, "first")
    with (tmp_path / "quarantine.jsonl").open("a") as file:
        file.write('{"problem": "half')
    quarantine.put(row, "second")
    lines = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line)["problem"] for line in (lines[0], lines[2])] == ["first", "second"]
    assert len(lines) == 3


def test_rows_are_stored_in_order_and_chained() -> None:
    store = ListStore()
    with journal(store) as made:
        for seq in range(100):
            for call in ("a", "b"):
                made.put(fact(seq, call=call, text="é\udc80\0"))
    for call in ("a", "b"):
        before = ""
        for seq, row in enumerate(store.rows(call)):
            assert row == chained(call, seq, 1.0 + seq, "policy.record", "p", row.payload, before)
            assert row.details == {"text": "é\udc80\0"}
            before = row.hash
    assert balanced(made)["stored"] == 200


async def test_who_waits_is_answered_by_one_commit_for_all() -> None:
    store = ListStore()
    store.gate.clear()
    with journal(store, strict=True) as made:
        for seq in range(50):
            made.put(fact(seq, EventType.VERDICT))
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(made.durable)
            await anyio.lowlevel.checkpoint()
            assert not store.kept
            store.gate.set()
        assert len(store.kept) == 50
        assert len(store.writes) <= 3
        assert any(durable for _, durable in store.writes)


@pytest.mark.parametrize("type", [EventType.RESPONSE_STARTED, EventType.CHANGED, EventType.ACTIVITY])
async def test_what_is_owed_in_strict_mode_is_on_disk_also_when_it_is_asked_for_later(
    type: EventType,
) -> None:
    store = ListStore()
    with journal(store, strict=True) as made:
        made.put(fact(0, type))
        await anyio.to_thread.run_sync(store.wait, 1)  # the group is written before anybody asks
        await made.durable()
    assert store.writes == [(1, type is not EventType.ACTIVITY)], "nothing is synced that nobody waits for"


async def test_a_store_that_takes_nothing_is_told_to_who_waits_and_nothing_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = ListStore()
    store.problem = "disk full"
    with journal(store, patience=0.05) as made:
        made.put(fact(0))
        with pytest.raises(SinkError, match="disk full"):
            await made.durable()
        assert made.failure == "disk full"
        assert balanced(made)["in_memory"] == 1
        store.problem = None
        made.put(fact(1))
        with anyio.fail_after(20):
            while made.failure is not None or len(store.kept) < 2:
                await anyio.to_thread.run_sync(store.wait, 2)
    assert [row.seq for row in store.rows("c")] == [0, 1]
    assert balanced(made)["stored"] == 2
    assert caplog.messages == ["records cannot be written: disk full", "records are written again"]


def test_a_full_queue_drops_activities_shrinks_content_keeps_decisions() -> None:
    store = ListStore()
    store.gate.clear()
    with journal(store, max_records=500) as made:
        seq = 0
        for type in (EventType.REQUEST_RECEIVED, EventType.ACTIVITY, EventType.VERDICT) * 1000:
            if made.has_room(type):
                made.put(fact(seq, type, body="x" * 100))
                seq += 1
        counts = balanced(made)
        assert counts["accepted"] == 3000
        assert counts["dropped"] == counts["dropped.overflow"] > 800
        assert counts["degraded"] > 800
        store.gate.set()
    counts = balanced(made)
    assert counts["stored"] == 3000 - counts["dropped"] == seq
    verdicts = [row for row in store.rows("c") if row.event_type == "policy.verdict"]
    assert len(verdicts) == 1000
    assert all(row.details == {"body": "x" * 100} for row in verdicts)
    assert [row.seq for row in store.rows("c")] == list(range(seq)), "no gap: what was dropped had no number"
    shrunk = [row.details for row in store.rows("c") if row.event_type == "request.received"][-1]
    assert shrunk["length"] == len('{"body":"' + "x" * 100 + '"}')
    assert len(shrunk["sha256"]) == 64


def test_a_poison_row_is_put_aside_and_the_rest_flows(tmp_path: Path) -> None:
    store = ListStore()
    store.poison = lambda row: row.seq == 3
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    with journal(store, quarantine=quarantine) as made:
        for seq in range(10):
            made.put(fact(seq))
        store.wait(9)
    assert [row.seq for row in store.rows("c")] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert quarantine.count == 1
    assert '"seq": 3' in (tmp_path / "quarantine.jsonl").read_text()
    counts = balanced(made)
    assert (counts["stored"], counts["dropped.poison"]) == (9, 1)


def test_a_poison_row_needs_no_company(tmp_path: Path) -> None:
    store = ListStore()
    store.poison = lambda row: row.seq == 1
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    with journal(store, quarantine=quarantine) as made:
        made.put(fact(0))
        store.wait(1)
        made.put(fact(1))  # and nothing after it
        made.stop(20)
        assert quarantine.count == 1
        counts = balanced(made)
        assert (counts["stored"], counts["dropped.poison"], counts["in_memory"]) == (1, 1, 0)


def test_nothing_is_poison_while_the_store_takes_nothing(tmp_path: Path) -> None:
    store = ListStore()
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    with journal(store, quarantine=quarantine) as made:
        made.put(fact(0))
        store.wait(1)
        store.problem = "gone"
        made.put(fact(1))
        eventually(lambda: store.refusals > 8)  # more than five tries
        assert not made.stop(0.01)
        assert quarantine.count == 0
        store.problem = None
        made.start()
        store.wait(2)


def test_a_store_that_goes_away_makes_no_row_poison(tmp_path: Path) -> None:
    """One row is refused, and while the rest is tried one by one the store goes away: nothing else is given up."""

    class Leaves(ListStore):
        single = 0

        def write(self, rows: Any, *, durable: bool = False) -> Any:
            self.single += len(rows) == 1
            if self.single == 6 and not self.problem:
                self.problem = "gone"
            try:
                return super().write(rows, durable=durable)
            finally:
                if self.single == 30:
                    self.problem = None

    store = Leaves()
    store.poison = lambda row: row.seq == 3
    quarantine = Quarantine(tmp_path / "q")
    with journal(store, quarantine=quarantine) as made:
        for seq in range(10):
            made.put(fact(seq))
        store.wait(9)
    assert quarantine.count == 1
    assert [row.seq for row in store.rows("c")] == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_a_key_that_is_taken_by_another_content_is_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    store = ListStore()
    store.write([chained("c", 0, 9.0, "policy.record", None, "{}", "")])
    with journal(store) as made:
        made.put(fact(0, text="something else"))
        made.put(fact(1))
        store.wait(2)
    counts = balanced(made)
    assert (counts["conflicts"], counts["dropped.conflict"], counts["stored"]) == (1, 1, 1)
    assert store.kept["c", 0].payload == "{}", "never overwritten"
    assert "another content" in caplog.text


def test_stopping_flushes_and_says_what_was_left(caplog: pytest.LogCaptureFixture) -> None:
    store = ListStore()
    made = Journal(store)
    made.start()
    for seq in range(2000):
        made.put(fact(seq))
    assert made.stop(20)
    assert len(store.kept) == 2000
    store.problem = "gone"
    made.start()
    made.put(fact(2000))
    assert not made.stop(0.1)
    assert "1 records were not written" in caplog.text
    assert balanced(made)["in_memory"] == 1


KINDS = (
    EventType.REQUEST_RECEIVED,  # content
    EventType.VERDICT,  # a decision
    EventType.ACTIVITY,
    EventType.RESPONSE_RECEIVED,
    EventType.CLOSED,
)


def test_a_million_records_and_a_store_that_hangs_need_bounded_memory() -> None:
    """Exchanges of every class of record, as traffic makes them: what is refused is a whole exchange, before it begins;
    when the store is back, it has every exchange that was accepted, whole."""

    class Hangs(ListStore):
        def write(self, rows: Any, *, durable: bool = False) -> Any:
            self.gate.wait()  # however long a million records take here
            return super().write(rows, durable=durable)

    store = Hangs()
    store.gate.clear()
    with journal(store, max_records=2_000) as made:
        delivery = Delivery([], storage=cast("Any", Stored(made)))
        begun, refused = 0, 0
        for number in range(200_000):
            recorder = delivery.recorder(f"c{number}")
            refused += recorder.refused
            for kind in KINDS:
                recorder(kind, body="x" * 100)
            begun += not recorder.refused
        counts = balanced(made)
        assert len(made._queue) <= 5 * 2_000 + len(KINDS)
        assert counts["accepted"] == 1_000_000
        assert counts["in_memory"] == len(made._queue)
        assert counts["dropped"] == counts["dropped.overflow"] == 1_000_000 - len(made._queue)
        assert begun + refused == 200_000
        store.gate.set()
    counts = balanced(made)
    assert counts["in_memory"] == 0
    assert counts["stored"] == len(store.kept) == 1_000_000 - counts["dropped"]
    ended = [row for row in store.kept.values() if row.event_type == "exchange.closed"]
    assert len(ended) == begun, "no decision of an exchange that was accepted is missing"
    for row in ended:
        rows = store.rows(row.call_id)
        assert [each.seq for each in rows] == list(range(len(rows)))
        assert row.details.get("lost", 0) == len(KINDS) - len(rows), "what it lost is said"


async def test_a_queue_is_bounded_in_bytes_too() -> None:
    store = ListStore()
    store.gate.clear()
    with journal(store, max_bytes=1_000_000) as made:
        made.put(fact(0, EventType.REQUEST_RECEIVED, body="x" * 400_000))
        made.put(fact(1, EventType.RESPONSE_RECEIVED, choices=[{"texts": [{"text": "y" * 700_000}]}]))
        assert balanced(made)["degraded"] == 0
        assert not made.has_room(EventType.ACTIVITY)
        made.put(fact(2, EventType.RESPONSE_RELEASED, choices=[{"texts": [{"text": "z" * 700_000}]}]))
        made.put(fact(3, EventType.VERDICT, reason="because"))
        assert balanced(made)["degraded"] == 1
        store.gate.set()
        store.wait(4)
        await made.durable()
        assert made.has_room(EventType.ACTIVITY), "what is written makes room"
    assert [row.details.get("degraded", False) for row in store.rows("c")] == [False, False, True, False]
    assert store.rows("c")[3].details == {"reason": "because"}


def test_what_is_remembered_is_bounded_at_any_depth() -> None:
    latest = Latest(max_bytes=1_000_000)
    for number in range(10):
        deep = {"choices": [{"texts": [{"text": str(number) * 300_000}]}]}
        latest.put(f"c{number}", 0, 1.0, EventType.RESPONSE_RECEIVED, None, deep)
    assert latest.calls() == ("c7", "c8", "c9")


def test_several_event_loops_put_into_one_memory() -> None:
    delivery = Delivery(())
    delivery.latest = Latest(size=2, lock=delivery.in_turn)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places inside `put`

    def put(_: int) -> None:
        for number in range(10_000):
            delivery.recorder(str(number % 7))(EventType.USAGE)

    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert delivery.ledger()["stored"] == delivery.ledger()["accepted"] == 40_000
    assert len(delivery.latest.calls()) == 2
