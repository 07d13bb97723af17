"""The commands that ask the store, on real files."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from luthien_guard.cli import main
from luthien_guard.sinks.urls import open_store
from luthien_guard.testing.sinks import exchange_rows

FIRST, SECOND = (exchange_rows(number)[0].call_id for number in (1, 2))


@pytest.fixture(params=["sqlite:///{}/g.db", "jsonl:///{}/g.jsonl"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    made = str(request.param).format(tmp_path)
    store = open_store(made)
    store.open()
    store.write(exchange_rows(1, "first", session_id="s"))
    store.write(exchange_rows(2, "\x1b[31mred\x1b[0m", model="m\x1b]0;title\x07"))
    store.close()
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def test_calls_are_listed_and_filtered(url: str) -> None:
    done = run("calls", "--store", url)
    assert done.exit_code == 0, done.output
    assert done.output.index(SECOND) < done.output.index(FIRST), "newest first"
    assert "\x1b" not in done.output
    assert "\\x1b]0;title" in done.output
    found = [
        json.loads(line)
        for line in run("calls", "--store", url, "--session", "s", "--json").output.splitlines()
    ]
    assert [each["call_id"] for each in found] == [FIRST]
    assert run("calls", "--store", url, "--text", "nowhere").output == "no calls\n"
    assert run("calls", "--store", url, "--since", "yesterday").exit_code == 2


def test_one_call_is_shown_by_any_part_of_its_id_that_is_one(url: str) -> None:
    for name in (FIRST, FIRST[:12]):
        done = run("show", name, "--store", url)
        assert done.exit_code == 0, done.output
        assert "request.received" in done.output
        assert '"text": "first"' in done.output
    done = run("show", SECOND, "--store", url)
    assert "\x1b" not in done.output
    many = run("show", FIRST[:4], "--store", url)
    assert many.exit_code == 1
    assert "is not one call" in many.output
    assert run("show", "nothing", "--store", url).exit_code == 1
    first, *rest = run("show", FIRST, "--json", "--store", url).output.splitlines()
    assert json.loads(first)["outcome"] == "blocked"
    assert [json.loads(each)["seq"] for each in rest] == [0, 1, 2, 3]


def test_a_diff_of_nothing_says_so(url: str) -> None:
    assert run("diff", FIRST, "--store", url).output == "nothing was changed\n"


def test_the_tail_is_printed(url: str) -> None:
    done = run("tail", "--store", url, "-n", "1")
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) == 4
    assert "exchange.closed judge" in done.output


def test_tampering_is_named(url: str, tmp_path: Path) -> None:
    whole = run("audit", "verify", "--store", url)
    assert (whole.exit_code, whole.output) == (0, "2 calls, 8 rows: 0 broken\n")
    if url.startswith("sqlite"):
        with sqlite3.connect(tmp_path / "g.db") as db:
            db.execute(
                "UPDATE conversation_events SET payload = '{}' WHERE call_id = ? AND seq = 1", (FIRST,)
            )
        db.close()
    else:
        file = tmp_path / "g.jsonl"
        file.write_text(file.read_text().replace("first", "fist"))
    done = run("audit", "verify", "--store", url)
    assert done.exit_code == 1
    assert f"{FIRST} row 1: it is not what was written" in done.output
    assert run("audit", "verify", SECOND, "--store", url).exit_code == 0


def test_the_store_is_looked_after(url: str, tmp_path: Path) -> None:
    assert run("db", "migrate", "--store", url).output == "schema 1\n"
    stats: Any = json.loads(run("db", "stats", "--json", "--store", url).output)
    assert (stats["calls"], stats["events"]) == (2, 8)
    assert run("db", "stats", "--store", url).exit_code == 0
    assert run("db", "prune", "--store", url).exit_code == 2
    done = run("db", "prune", "--older-than", "1d", "--export", str(tmp_path / "old.jsonl"), "--store", url)
    assert done.exit_code == 0, done.output
    assert "2 calls deleted" in done.output
    lines = (tmp_path / "old.jsonl").read_text().splitlines()
    assert [json.loads(each)["seq"] for each in lines] == [0, 1, 2, 3] * 2
    assert json.loads(run("db", "stats", "--json", "--store", url).output)["calls"] == 0


def test_rows_leave_as_parquet(url: str, tmp_path: Path) -> None:
    import pyarrow.parquet

    done = run("db", "export", str(tmp_path / "rows.parquet"), "--store", url)
    assert done.exit_code == 0, done.output
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["seq"] for row in table] == [0, 1, 2, 3] * 2


def test_a_question_makes_no_file(tmp_path: Path) -> None:
    done = run("calls", "--store", f"sqlite:///{tmp_path}/none.db")
    assert done.exit_code == 2
    assert "nothing has been recorded" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["calls", "show x", "diff x", "tail", "audit verify", "db stats"])
def test_a_wrong_store_is_told(command: str) -> None:
    done = run(*command.split(), "--store", "sqlit:///x")
    assert done.exit_code == 2
    assert "did you mean 'sqlite'?" in done.output
