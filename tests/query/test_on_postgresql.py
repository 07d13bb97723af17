"""The same questions, on a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from luthien_guard.cli import main
from luthien_guard.query import Finding, Report, audit
from luthien_guard.sinks.urls import open_store
from luthien_guard.testing.sinks import exchange_rows
from tests.sinks.servers import admin

IDS = [exchange_rows(number)[0].call_id for number in (1, 2, 3)]


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def test_a_database_is_asked_audited_and_pruned(database: str, tmp_path: Path) -> None:
    store = open_store(database)
    store.open()
    for number in (1, 2, 3):
        store.write(exchange_rows(number, f"text {number}", session_id="s"))
    store.write(exchange_rows(4, "still", ended=False))
    assert audit(store) == Report(4, 15, open=1)
    assert run("calls", "--store", database, "--text", "text 2").output.count("\n") == 2
    assert "text 1" in run("show", IDS[0][:12], "--store", database).output

    admin(
        database,
        f"UPDATE conversation_events SET payload = '{{}}' WHERE call_id = '{IDS[0]}' AND seq = 1",
        f"UPDATE conversation_calls SET outcome = 'success' WHERE call_id = '{IDS[2]}'",
        f"DELETE FROM conversation_calls WHERE call_id = '{IDS[1]}'",
    )
    assert audit(store).findings == [
        Finding(IDS[2], 3, "the line of the call has another outcome"),
        Finding(IDS[0], 1, "it is not what was written"),
        Finding(IDS[1], 0, "there is no line of its call"),
    ]
    store.close()
    assert run("audit", "verify", "--store", database).exit_code == 1
    file = tmp_path / "old.jsonl"
    done = run("db", "prune", "--older-than", "1d", "--export", str(file), "--store", database)
    assert done.output == f"15 rows in {file}\n4 calls deleted\n", "also those without a line"
