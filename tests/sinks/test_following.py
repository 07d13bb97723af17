"""Who follows a file goes on when it is rotated, replaced, cut or pruned: nothing is missing, and nothing comes twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import aclosing, closing
from pathlib import Path

import anyio
import pytest

from luthien_guard.errors import SinkError
from luthien_guard.query import Query
from luthien_guard.sinks.jsonl import JsonlStore
from luthien_guard.sinks.pubsub.sqlite_tail import TailPubSub
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import Row, Store
from luthien_guard.testing.sinks import exchange_rows

FILES = [SqliteStore, JsonlStore]
ONE, TWO, THREE, FOUR = (exchange_rows(number, "text") for number in range(1, 5))


def opened(kind: type[SqliteStore | JsonlStore], path: Path) -> SqliteStore | JsonlStore:
    store = kind(path)
    store.open()
    return store


def take_away(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.rename(path.parent / f"old-{each.name}")


def write_in_spite(store: Store, rows: Sequence[Row]) -> None:
    """As the delivery does: a batch that failed comes again."""
    with pytest.raises(SinkError, match="taken away"):
        store.write(rows)
    assert store.write(rows).stored == len(rows)


def come(store: Store, position: int) -> tuple[int, list[Row]]:
    """All that comes after `position`: a look that finds nothing may be the one that goes over to another file."""
    found: list[Row] = []
    quiet = 0
    while quiet < 2:
        position, rows = store.tail(position, limit=2)
        found += rows
        quiet = 0 if rows else quiet + 1
    return position, found


@pytest.mark.parametrize("kind", FILES)
def test_a_tail_goes_over_to_the_file_that_has_the_name(
    kind: type[SqliteStore | JsonlStore], tmp_path: Path
) -> None:
    path = tmp_path / "s"
    writer, reader = opened(kind, path), opened(kind, path)
    writer.write(ONE)
    far, near = reader.tail()[0], 0
    writer.write(TWO)  # seen by nobody yet
    take_away(path)
    assert reader.tail(far, limit=1)[1] == TWO[:1], "what the old one has comes first"
    assert not path.exists(), "who only looks makes no file"
    write_in_spite(writer, THREE)
    far, found = come(reader, far)
    assert found == [*TWO, *THREE]
    writer.write(FOUR)
    far, found = come(reader, far)
    assert found == FOUR
    assert come(reader, near)[1] == [*THREE, *FOUR], "the beginning is that of the file of now"
    assert come(reader, reader.tail()[0])[1] == []
    assert [row for rows in (THREE, FOUR) for row in reader.rows(rows[0].call_id)] == [*THREE, *FOUR]
    writer.close()
    reader.close()


@pytest.mark.parametrize("kind", FILES)
def test_two_who_follow_one_store_go_on_from_where_each_was(
    kind: type[SqliteStore | JsonlStore], tmp_path: Path
) -> None:
    path = tmp_path / "s"
    writer, reader = opened(kind, path), opened(kind, path)
    writer.write([*ONE, *TWO])
    one, two = reader.tail(0, limit=len(ONE))[0], reader.tail()[0]
    assert writer.prune(before=1500.0) == 1
    writer.write(THREE)
    assert come(reader, two)[1] == THREE
    assert come(reader, one)[1] == [*TWO, *THREE]
    writer.close()
    reader.close()


def test_a_reader_sees_the_file_that_has_the_name(tmp_path: Path) -> None:
    path = tmp_path / "s"
    writer, reader = opened(SqliteStore, path), opened(SqliteStore, path)
    writer.write(ONE)
    assert reader.rows(ONE[0].call_id) == ONE
    take_away(path)
    assert reader.rows(ONE[0].call_id) == ONE, "while nothing has it"
    write_in_spite(writer, TWO)
    assert reader.call(ONE[0].call_id) is None
    assert reader.rows(TWO[0].call_id) == TWO
    writer.close()
    reader.close()


def test_a_file_of_lines_that_was_cut_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "s"
    writer, reader = opened(JsonlStore, path), opened(JsonlStore, path)
    writer.write([*ONE, *TWO])
    position, _ = reader.tail()
    with path.open("r+b") as file:  # `copytruncate`
        file.truncate(0)
    writer.write(THREE)
    assert come(reader, position)[1] == THREE
    writer.close()
    reader.close()


def test_a_file_of_lines_that_is_pruned_again_and_again_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    writer, reader = opened(JsonlStore, path), opened(JsonlStore, path)
    position, seen = reader.tail()[0], []
    for number in range(1, 8):
        writer.write(exchange_rows(number, "x"))
        writer.prune(before=1000.0 * number - 1500)
        position, found = come(reader, position)
        seen += found
    assert seen == [row for number in range(1, 8) for row in exchange_rows(number, "x")]
    writer.close()
    reader.close()


def test_rows_before_all_others_are_seen_from_the_beginning(tmp_path: Path) -> None:
    """Who tampers gives them such numbers, so that exports and audits pass them over."""
    path = tmp_path / "s"
    store = opened(SqliteStore, path)
    store.write(ONE)
    with closing(sqlite3.connect(path)) as db, db:
        for number, row in zip((-(2**63), -1, 0, 2**62), ONE, strict=True):
            db.execute("UPDATE conversation_events SET position = ? WHERE seq = ?", (number, row.seq))
    for limit in (1, 2, 500):
        position, seen = 0, []
        while rows := store.tail(position, limit=limit)[1]:
            position, _ = store.tail(position, limit=limit)
            seen += rows
        assert seen == ONE
    store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["sqlite:///{}/s", "jsonl:///{}/s"])
async def test_a_query_and_a_hub_follow_over_a_rotation(url: str, tmp_path: Path) -> None:
    def make() -> Store:
        return open_store(url.format(tmp_path))

    writer = make()
    writer.open()
    writer.write(ONE)
    query, hub = Query(make), TailPubSub(make, pause=0.01)
    with anyio.fail_after(30):
        async with aclosing(query.follow(await query.position())) as rows, hub.subscribe() as notices:
            writer.write(TWO)
            assert [await anext(rows) for _ in TWO] == TWO
            take_away(tmp_path / "s")
            write_in_spite(writer, THREE)
            assert [await anext(rows) for _ in THREE] == THREE
            told = [await anext(notices) for _ in [*TWO, *THREE]]
    assert [(each.call_id, each.seq) for each in told] == [(row.call_id, row.seq) for row in [*TWO, *THREE]]
    await query.close()
    writer.close()
