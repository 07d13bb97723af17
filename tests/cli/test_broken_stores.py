"""The commands that ask the store, where somebody was at its files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from luthien_guard.cli import main
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import chained, payload_of
from luthien_guard.testing.sinks import exchange_rows

FIRST, SECOND = (exchange_rows(number)[0].call_id for number in (1, 2))


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path}/g.db"
    store = open_store(made)
    store.open()
    store.write([*exchange_rows(1, "first"), *exchange_rows(2, "second")])
    store.close()
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.mark.parametrize("value", ["CAST({} AS BLOB)", "CAST(x'ff' AS TEXT)"])
@pytest.mark.parametrize("table", ["conversation_events", "conversation_calls"])
@pytest.mark.parametrize("column", ["call_id", "text"])
def test_one_value_of_no_type_hides_nothing_else(
    url: str, table: str, column: str, value: str, tmp_path: Path
) -> None:
    name = column if column == "call_id" else "payload" if table == "conversation_events" else "model"
    where = "call_id = ?" + (" AND seq = 1" if table == "conversation_events" else "")
    with sqlite3.connect(tmp_path / "g.db") as db:
        db.execute(f"UPDATE {table} SET {name} = {value.format(name)} WHERE {where}", (SECOND,))
    db.close()
    export = ["db", "export", str(tmp_path / "e.jsonl")]
    parquet = ["db", "export", str(tmp_path / "e.parquet")]
    for words in (
        ["calls"],
        ["calls", "--text", "é"],
        ["show", FIRST],
        ["diff", FIRST],
        ["tail"],
        export,
        parquet,
    ):
        done = run(*words, "--store", url)
        assert done.exit_code == 0, (words, done.output, done.exc_info)
    assert run("audit", "verify", "--store", url).exit_code == 1
    done = run("db", "prune", "--older-than", "1d", "--store", url)
    lost = name == "call_id" and table == "conversation_calls"  # rows that no line has
    assert done.output == f"{3 if lost else 2} calls deleted\n"


@pytest.mark.parametrize("depth", [400, 900, 100_000])
def test_a_diff_of_what_is_nested_too_deep_is_no_crash(depth: int, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/g.db"
    store = open_store(url)
    store.open()
    before = ""
    for seq, (type, inner) in enumerate((("request.received", ""), ("request.sent", "1"))):
        body = "[" * depth + inner + "]" * depth
        row = chained(FIRST, seq, 1.0, type, None, payload_of({"body": body}), before)
        store.write([row])
        before = row.hash
    store.close()
    done = run("diff", FIRST, "--store", url)
    assert isinstance(done.exception, SystemExit | None), done.exc_info
    assert done.exit_code in (0, 1)


def test_a_call_that_hides_from_who_follows_is_exported_before_it_is_deleted(
    url: str, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "g.db") as db:
        db.execute("UPDATE conversation_events SET position = -position WHERE call_id = ?", (FIRST,))
    db.close()
    file = tmp_path / "old.jsonl"
    done = run("db", "prune", "--older-than", "1d", "--export", str(file), "--store", url)
    assert done.output == f"8 rows in {file}\n2 calls deleted\n"
    assert run("audit", "verify", "--store", f"jsonl:///{file}").output == "2 calls, 8 rows: 0 broken\n"
