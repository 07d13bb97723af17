"""What is exported is what is deleted: no row goes that is in no file."""

from __future__ import annotations

import errno
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.cli.exporting import exported, writer_for
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import Row, Store, chained, id_at

URLS = ["sqlite:///{}/g.db", "jsonl:///{}/g.jsonl"]
OLD = 1_700_000_000.0  # Unix seconds: what began before goes


def call(started: float, *, id: float | None = None) -> list[Row]:
    """The rows of a call that began so many seconds after OLD; `id`: what its id says, where that is another time."""
    call_id = f"{id_at(OLD + (started if id is None else id))}-7000-8000-000000000000"
    rows: list[Row] = []
    for seq, type in enumerate(("request.received", "policy.record", "exchange.closed")):
        before = rows[-1].hash if rows else ""
        rows.append(chained(call_id, seq, OLD + started + seq, type, None, "{}", before))
    return rows


@pytest.fixture(params=URLS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = open_store(str(request.param).format(tmp_path))
    made.open()
    yield made
    made.close()


def read(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        import pyarrow.parquet

        found: list[dict[str, Any]] = pyarrow.parquet.read_table(file).to_pylist()
        return found
    return [json.loads(line) for line in file.read_text().splitlines()]


def keys(file: Path) -> list[tuple[str, int]]:
    return [(each["call_id"], each["seq"]) for each in read(file)]


def keys_of(rows: list[Row]) -> list[tuple[str, int]]:
    return [(row.call_id, row.seq) for row in rows]


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_every_row_of_a_large_store_is_in_the_export(store: Store, tmp_path: Path, end: str) -> None:
    rows = [row for number in range(700) for row in call(number)]
    store.write(rows)
    file = tmp_path / f"all.{end}"
    assert exported(store, file, writer_for(file), None, lambda _: None).rows == len(rows)
    assert keys(file) == keys_of(rows)


@pytest.mark.parametrize("max_bytes", [None, 0])
@pytest.mark.parametrize("events_only", [False, True])
def test_what_comes_while_an_export_runs_is_not_deleted(
    store: Store, tmp_path: Path, events_only: bool, max_bytes: int | None
) -> None:
    whole, growing, late, newest = call(-9000), call(-8000), call(-7000), call(9000)
    store.write([*whole, *growing[:-1], *newest])

    def arrive(_: int) -> None:
        """A call with an old beginning (it waited in a spool), and more of one that is there."""
        store.write([*late, growing[-1]])

    file = tmp_path / "old.jsonl"
    before = OLD if max_bytes is None else None
    seen = exported(store, file, writer_for(file), before, arrive).seen
    store.prune(before=before, max_bytes=max_bytes, events_only=events_only, seen=seen)
    assert store.rows(whole[0].call_id) == []
    assert store.rows(late[0].call_id) == late
    assert store.rows(growing[0].call_id) == growing
    assert set(keys(file)) >= set(keys_of(whole))


def test_calls_of_clocks_that_were_set_are_exported_by_their_beginning(store: Store, tmp_path: Path) -> None:
    """Their ids say another time than their first rows."""
    old, young, ahead, behind = call(-9000), call(9000), call(-8000, id=8000), call(8000, id=-8000)
    store.write([*old, *young, *ahead, *behind])
    file = tmp_path / "old.jsonl"
    seen = exported(store, file, writer_for(file), OLD, lambda _: None).seen
    assert store.prune(before=OLD, seen=seen) == 2
    assert keys(file) == keys_of([*old, *ahead])
    assert store.rows(young[0].call_id) == young
    assert store.rows(behind[0].call_id) == behind


def test_rows_that_no_line_has_are_exported_and_pruned(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/g.db")
    store.open()
    lost, old, young = call(-9000), call(-8000), call(9000)
    store.write([*lost, *old, *young])
    with sqlite3.connect(tmp_path / "g.db") as db:
        db.execute("DELETE FROM conversation_calls WHERE call_id = ?", (lost[0].call_id,))
    db.close()
    file = tmp_path / "old.jsonl"
    seen = exported(store, file, writer_for(file), OLD, lambda _: None).seen
    assert store.prune(before=OLD, seen=seen) == 2
    assert keys(file) == keys_of([*lost, *old])
    assert store.stats()["events"] == len(young)
    store.close()


def test_a_disk_without_room_is_told_with_the_file(store: Store, tmp_path: Path) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "all.jsonl"
    with pytest.raises(OSError, match=r"No space left on device: '.*all\.jsonl'"):
        exported(store, file, write, None, lambda _: None)
    assert not list(tmp_path.glob("*.part"))
