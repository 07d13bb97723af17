"""Tampering with a database file: whatever column of whatever table is changed, the audit says so."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthien_guard.query import Finding, Report, audit, verify
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.store import CALL_COLUMNS, EVENT_COLUMNS, CallFilter, Row, chained
from luthien_guard.testing.sinks import exchange_rows

CALLS = [exchange_rows(number, "a", "b", session_id="s") for number in range(1, 4)]
CHANGED = "UPDATE conversation_events SET payload = '{}' WHERE call_id = ? AND seq = 1"
IDS = [rows[0].call_id for rows in CALLS]


@pytest.fixture(scope="module")
def original() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.db"
        store = SqliteStore(path)
        store.open()
        store.write([row for rows in CALLS for row in rows])
        store.write(exchange_rows(4, "still", ended=False))
        store.close()
        yield path


@contextmanager
def tampered(original: Path, *statements: tuple[str, tuple[Any, ...]]) -> Iterator[SqliteStore]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.db"
        shutil.copy(original, path)
        with closing(sqlite3.connect(path)) as db, db:
            for statement in statements:
                db.execute(*statement)
        store = SqliteStore(path)
        store.open()
        try:
            yield store
        finally:
            store.close()


def test_a_whole_store_has_no_finding(original: Path) -> None:
    told: list[int] = []
    with tampered(original) as store:
        assert audit(store, progress=lambda report: told.append(report.events)) == Report(4, 18, open=1)
        assert audit(store, IDS[0]) == Report(1, 5)
        assert audit(store, "nobody").findings == [Finding("nobody", 0, "all of its rows are missing")]
    assert told[0] == told[-1] == 18


@settings(max_examples=50)
@given(
    call=st.integers(0, 2), seq=st.integers(0, 4), column=st.sampled_from(["seq", "at", "event_type", "policy", "payload", "prev_hash", "hash"])
)  # fmt: skip
def test_any_change_of_a_row_is_found(original: Path, call: int, seq: int, column: str) -> None:
    value: Any = {"seq": 77, "policy": "nobody"}.get(column, "other")
    change = f"UPDATE conversation_events SET {column} = ? WHERE call_id = ? AND seq = ?"
    with tampered(original, (change, (value, IDS[call], seq))) as store:
        (finding,) = verify(store)
        assert finding.call_id == IDS[call]
        assert finding.seq in (seq, seq + 1)


@settings(max_examples=50)
@given(call=st.integers(0, 2), column=st.sampled_from(CALL_COLUMNS[1:]), null=st.booleans())
def test_any_change_of_a_line_is_found(original: Path, call: int, column: str, null: bool) -> None:
    value: Any = None if null else {"stream": 0}.get(column, "{x")
    change = f"UPDATE conversation_calls SET {column} = ? WHERE call_id = ? AND {column} IS NOT ?"
    with tampered(original, (change, (value, IDS[call], value))) as store:
        found = list(verify(store))
        if null and column in ("user_id", "api_key_hash", "trace_id"):  # they are null in the original
            assert found == []
        else:
            assert found == [Finding(IDS[call], 4, f"the line of the call has another {column}")]


NONSENSE = ["CAST({} AS BLOB)", "CAST(x'ff' AS TEXT)", "x'ff'", "9e999", "zeroblob(3)"]


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize("column", EVENT_COLUMNS)
def test_values_of_no_type_in_a_row_are_found_and_hide_nothing_else(
    original: Path, column: str, value: str
) -> None:
    """SQLite takes any value in any column."""
    change = f"UPDATE conversation_events SET {column} = {value.format(column)} WHERE call_id = ? AND seq = 1"
    with tampered(original, (change, (IDS[1],)), (CHANGED, (IDS[0],))) as store:
        findings = audit(store).findings
        assert [each for each in findings if each.call_id == IDS[0]] == [
            Finding(IDS[0], 1, "it is not what was written")
        ]
        assert [each.seq for each in findings if each.call_id == IDS[1]] == [1]
        strange = [each.problem for each in findings if each.call_id not in IDS]
        assert len(strange) == (column == "call_id"), strange
        assert len(store.tail(0)[1]) == 18
        assert store.prune(before=1e9) == 4


@pytest.mark.parametrize("value", NONSENSE)
@pytest.mark.parametrize("column", CALL_COLUMNS)
def test_values_of_no_type_in_a_line_are_found_and_hide_nothing_else(
    original: Path, column: str, value: str
) -> None:
    change = f"UPDATE conversation_calls SET {column} = {value.format(column)} WHERE call_id = ?"
    with tampered(original, (change, (IDS[1],)), (CHANGED, (IDS[0],))) as store:
        findings = audit(store).findings
        assert [each for each in findings if each.call_id == IDS[0]] == [
            Finding(IDS[0], 1, "it is not what was written")
        ]
        others = [each.problem for each in findings if each.call_id != IDS[0]]
        assert len(others) == (2 if column == "call_id" else 0 if change_is_none(column, value) else 1), (
            others
        )
        assert len(store.calls(CallFilter())) == 4
        assert store.unfinished() == [exchange_rows(4)[0].call_id]


def change_is_none(column: str, value: str) -> bool:
    """NULL stays NULL, and 1 a number."""
    return column in ("user_id", "api_key_hash", "trace_id") and "{}" in value


@settings(max_examples=50)
@given(call=st.integers(0, 2), seq=st.integers(0, 4))
def test_any_missing_row_is_found_the_last_one_by_the_line(original: Path, call: int, seq: int) -> None:
    delete = "DELETE FROM conversation_events WHERE call_id = ? AND seq = ?"
    with tampered(original, (delete, (IDS[call], seq))) as store:
        (finding,) = verify(store)
        assert (finding.call_id, finding.seq) == (IDS[call], min(seq, 3))


@settings(max_examples=50)
@given(call=st.integers(0, 2), seq=st.integers(0, 5))
def test_any_row_put_in_is_found(original: Path, call: int, seq: int) -> None:
    """Also one that is chained as it should be: a call has one end."""
    before = CALLS[call][seq - 1].hash if seq else ""
    row = chained(IDS[call], seq, 1.0, "policy.record", None, "{}", before)
    moved = "UPDATE conversation_events SET seq = seq + 100 WHERE call_id = ? AND seq >= ?"
    back = "UPDATE conversation_events SET seq = seq - 99 WHERE call_id = ? AND seq >= 100"
    insert = f"INSERT INTO conversation_events ({', '.join(Row.__slots__)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    values = tuple(getattr(row, name) for name in Row.__slots__)
    key = IDS[call]
    with tampered(original, (moved, (key, seq)), (back, (key,)), (insert, values)) as store:
        (finding,) = verify(store)
        assert finding.call_id == key


@settings(max_examples=50)
@given(call=st.integers(0, 2), pair=st.lists(st.integers(0, 4), min_size=2, max_size=2, unique=True))
def test_any_two_rows_that_changed_places_are_found(original: Path, call: int, pair: list[int]) -> None:
    one, other = pair
    swap = "UPDATE conversation_events SET seq = ? WHERE call_id = ? AND seq = ?"
    key = IDS[call]
    with tampered(
        original, (swap, (99, key, one)), (swap, (one, key, other)), (swap, (other, key, 99))
    ) as store:
        (finding,) = verify(store)
        assert (finding.call_id, finding.seq) == (key, min(pair))


def test_rows_of_another_call_are_found(original: Path) -> None:
    take = "DELETE FROM conversation_events WHERE call_id = ?"
    give = "UPDATE conversation_events SET call_id = ? WHERE call_id = ?"
    with tampered(original, (take, (IDS[0],)), (give, (IDS[0], IDS[1]))) as store:
        assert [each.call_id for each in verify(store)] == [IDS[1], IDS[0]]


def test_a_call_without_its_line_is_found(original: Path) -> None:
    with tampered(original, ("DELETE FROM conversation_calls WHERE call_id = ?", (IDS[1],))) as store:
        assert list(verify(store)) == [Finding(IDS[1], 0, "there is no line of its call")]
        assert list(verify(store, IDS[1])) == [Finding(IDS[1], 0, "there is no line of its call")]


def test_what_retention_took_is_counted_and_what_else_is_gone_is_found(original: Path) -> None:
    with tampered(original) as store:
        assert store.prune(before=1500.0, events_only=True) == 1
        assert audit(store) == Report(4, 13, open=1, pruned=1)
    with tampered(original, ("DELETE FROM conversation_events WHERE call_id = ?", (IDS[1],))) as store:
        report = audit(store)
        assert report.findings == [Finding(IDS[1], 0, "all of its rows are missing")]
        assert report.pruned == 0


GONE = "DELETE FROM conversation_events"
FINE = "UPDATE conversation_calls SET outcome = 'success', blocked_by = NULL, started_at = 1"


def test_rows_that_went_without_retention_are_found_whatever_the_lines_say(original: Path) -> None:
    with tampered(original, (GONE, ()), (FINE, ())) as store:
        report = audit(store)
        assert [each.problem for each in report.findings] == ["all of its rows are missing"] * 4
        assert report.pruned == 0
        assert len(audit(store, IDS[0]).findings) == 1


def test_rows_that_went_after_retention_are_found_whatever_the_lines_say(original: Path) -> None:
    with tampered(original) as store:
        store.prune(before=1500.0, events_only=True)
        with closing(sqlite3.connect(str(store.path))) as db, db:
            db.execute(f"{GONE} WHERE call_id = ?", (IDS[1],))
            db.execute(f"{FINE} WHERE call_id = ?", (IDS[1],))
        report = audit(store)
        assert report.findings == [Finding(IDS[1], 0, "all of its rows are missing")]
        assert report.pruned == 1
        assert audit(store, IDS[0]) == Report(1, 0, pruned=1)


def test_a_call_that_began_when_the_clock_was_set_back_accuses_nobody(original: Path) -> None:
    with tampered(original) as store:
        store.prune(before=2500.0, events_only=True)
        store.write(exchange_rows(0, "slow"))
        assert audit(store) == Report(5, 12, open=1, pruned=2)


def test_a_chain_that_was_made_anew_from_nonsense_is_a_finding(original: Path) -> None:
    row = chained(IDS[0], 0, 1.0, "request.received", None, "[1]", "")
    change = "UPDATE conversation_events SET at = ?, payload = ?, hash = ? WHERE call_id = ? AND seq = 0"
    rest = "DELETE FROM conversation_events WHERE call_id = ? AND seq > 0"
    values = (row.at, row.payload, row.hash, IDS[0])
    with tampered(original, (change, values), (rest, (IDS[0],))) as store:
        (finding,) = verify(store)
        assert "never written" in finding.problem


def test_rows_that_hide_before_all_others_are_found(original: Path) -> None:
    """One with a negative number stands before all others."""
    last = CALLS[0][-1]
    row = chained(IDS[0], last.seq + 1, 1.0, "policy.record", None, "{}", last.hash)
    names = ("position", *Row.__slots__)
    insert = f"INSERT INTO conversation_events ({', '.join(names)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    values = (-5, *(getattr(row, name) for name in Row.__slots__))
    with tampered(original, (insert, values)) as store:
        assert list(verify(store)) == [Finding(IDS[0], 4, "something follows the end of the call")]


def test_rows_in_another_order_are_no_finding(original: Path) -> None:
    """A spool that was mended brings them in any."""
    turn = "UPDATE conversation_events SET position = 1000 - position"
    with tampered(original, (turn, ())) as store:
        assert audit(store) == Report(4, 18, open=1)
