"""The stores of this project keep what `check_sink` asks of any; and what only files can get wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.sinks.jsonl import JsonlStore
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import Row, Written
from luthien_guard.testing.sinks import check_sink, exchange_rows

URLS = ["sqlite:///{}/deep/guard.db", "jsonl:///{}/deep/guard.jsonl"]


@pytest.mark.parametrize("url", URLS)
def test_stores_in_files_keep_the_promises(url: str, tmp_path: Path) -> None:
    check_sink(lambda: open_store(url.format(tmp_path)))


def test_the_store_in_memory_keeps_the_promises() -> None:
    check_sink(lambda: open_store("memory://"), keeps=False)


class Forgets(SqliteStore):
    def write(self, rows: Any, *, durable: bool = False) -> Written:
        return super().write(rows[:-1] if len(rows) > 1 else rows, durable=durable)


class Overwrites(SqliteStore):
    def write(self, rows: Any, *, durable: bool = False) -> Written:
        for row in rows:
            self._do(lambda db, row=row: db.execute("DELETE FROM conversation_events WHERE call_id=? AND seq=?", (row.call_id, row.seq)))  # fmt: skip
        return super().write(rows, durable=durable)


class Unordered(SqliteStore):
    def rows(self, call_id: str, *, after: int = -1) -> list[Row]:
        return super().rows(call_id, after=after)[::-1]


class Skips(SqliteStore):
    def tail(self, position: int | None = None, *, limit: int = 500) -> tuple[int, list[Row]]:
        position, rows = super().tail(position, limit=limit)
        return position, rows[1:]


class Patterns(SqliteStore):
    def calls(self, wanted: Any) -> Any:
        return super().calls(wanted)[: wanted.limit - 1 if wanted.limit == 2 else None]


@pytest.mark.parametrize("broken", [Forgets, Overwrites, Unordered, Skips, Patterns])
def test_a_broken_store_is_found_out(broken: Callable[[Path], SqliteStore], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check_sink(lambda: broken(tmp_path / "s.db"))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("guard.db", "is no URL"),
        ("sqlit:///x", "did you mean 'sqlite'?"),
        ("sqlite://", "sqlite:///relative.db"),
        ("sqlite://host/x", "sqlite:///relative.db"),
        ("jsonl://", "jsonl:///relative.jsonl"),
        ("memory://x", "no path"),
        ("nothing-like-it://x", "nothing is installed"),
    ],
)
def test_a_wrong_url_is_told_precisely(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        open_store(url)


def test_a_schema_of_before_is_brought_up_to_date(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    store.open()
    store.write(exchange_rows(1))
    store.close()
    with sqlite3.connect(tmp_path / "s.db") as db:  # as the first version left it
        db.execute("DROP TABLE conversation_pruned")
        db.execute("DELETE FROM schema_migrations WHERE version > 1")
    db.close()
    store.open()
    assert store.stats()["schema"] == 2
    assert store.rows(exchange_rows(1)[0].call_id) == exchange_rows(1)
    assert store.prune(before=1e12) == 1
    store.close()


@pytest.mark.parametrize("make", [SqliteStore, JsonlStore])
def test_files_that_cannot_be_used_are_told(make: Callable[[Path], Any], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(SinkError, match=str(folder)):
        make(folder).open()
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"this is neither\nof the two\n" * 100)
    with pytest.raises(SinkError, match="garbage"):
        make(garbage).open()


@pytest.mark.parametrize("make", [SqliteStore, JsonlStore])
def test_files_are_for_their_owner_only(make: Callable[[Path], Any], tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    store.open()
    store.write(exchange_rows(1), durable=True)
    store.close()
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    one, two = SqliteStore(tmp_path / "s"), SqliteStore(tmp_path / "s")
    one.open()
    two.open()
    for number in range(1, 50, 2):
        one.write(exchange_rows(number))
        two.write(exchange_rows(number + 1))
    _, rows = two.tail(0)
    assert len(rows) == 50 * 3
    assert len({(row.call_id, row.seq) for row in rows}) == 150


def test_a_line_that_a_dying_process_left_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store = JsonlStore(path)
    store.open()
    store.write(exchange_rows(1))
    store.close()
    whole = path.read_bytes()
    for cut in (1, 5, 100):
        path.write_bytes(whole + whole[:cut])
        store = JsonlStore(path)
        store.open()
        assert store.rows(exchange_rows(1)[0].call_id) == exchange_rows(1)
        assert path.read_bytes() == whole + whole[:cut], "reading changes nothing"
        store.write(exchange_rows(1))
        store.close()
        assert path.read_bytes() == whole
