"""The commands that ask the store, on real files."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from luthien_guard.cli import main
from luthien_guard.cli.exporting import exported, writer_for
from luthien_guard.cli.output import rich_table
from luthien_guard.errors import ConfigError
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import chained, payload_of
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


def schema_of(url: str) -> int:
    """The latest of each."""
    return 2 if url.startswith("sqlite:") else 1


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
    misspelled = run("calls", "--store", url, "--outcome", "block")
    assert (misspelled.exit_code, "'blocked'" in misspelled.output) == (2, True)
    assert run("db", "prune", "--store", url, "--max-bytes", "9" * 5000).exit_code == 2


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
    assert run("db", "migrate", "--store", url).output == f"schema {schema_of(url)}\n"
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


# -- what strangers wrote ------------------------------------------------------------------------------------------------

EVIL = "\x1b[2J\x9b31m\x7f\r\nforged: exchange.closed success\n\u202egpj.\u2028"


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """Whatever a stranger can choose, and a payload that is none."""
    url = f"sqlite:///{tmp_path}/evil.db"
    store = open_store(url)
    store.open()
    rows = exchange_rows(
        1, EVIL, model=EVIL, endpoint=EVIL, session_id=EVIL, body=json.dumps({EVIL: EVIL, "model": "m"})
    )
    last = rows[-1]
    facts: list[tuple[str, Any]] = [
        ("request.sent", {"body": json.dumps({EVIL: "other" + EVIL})}),
        ("response.received", _response(EVIL)),
        ("response.released", _response("other" + EVIL, said=[EVIL])),
        ("policy.record", {EVIL: [EVIL]}),
    ]
    for type, details in facts:
        last = chained(last.call_id, last.seq + 1, 1.0, type, EVIL, payload_of(details), last.hash)
        rows.append(last)
    store.write(rows)
    store.close()
    return url


def _response(text: str, **more: Any) -> dict[str, Any]:
    call = {"id": text, "name": text, "arguments": text, "kind": text}
    texts = [{"channel": text, "index": 0, "text": text}, {"channel": "content", "index": 0, "text": text}]
    return {"choices": [{"choice": 0, "texts": texts, "tool_calls": [call], "finish_reason": text}], **more}


@pytest.mark.parametrize("json_", [(), ("--json",)])
@pytest.mark.parametrize(
    "command", ["calls", "show", "show --full", "diff", "diff --words", "tail", "audit verify"]
)
def test_nothing_of_a_strangers_steers_the_terminal(
    hostile: str, command: str, json_: tuple[str, ...]
) -> None:
    words = command.split() + ([FIRST] if command.startswith(("show", "diff")) else [])
    if json_ and ("--full" in words or "--words" in words):
        return
    done = run(*words, *json_, "--store", hostile)
    assert done.exit_code == (1 if words[0] == "audit" else 0), done.output
    assert [each for each in done.output.replace("\n", "") if not each.isprintable()] == []
    assert not any(each.startswith("forged") for each in done.output.splitlines()), "a line of its own"
    if json_:
        assert all(json.loads(each) for each in done.output.splitlines())


@pytest.mark.parametrize("url", ["sqlite:///{}/g.db"], indirect=True)
def test_rows_that_somebody_broke_are_shown_as_they_are(url: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "g.db") as db:
        db.execute("UPDATE conversation_events SET payload = '{broken', at = 1e300 WHERE seq = 0")
        db.execute("UPDATE conversation_events SET payload = '[1]', at = 'x' WHERE seq = 1")
        db.execute("UPDATE conversation_calls SET usage = '{broken', started_at = 'x'")
    db.close()
    assert run("calls", "--store", url).exit_code == 0
    for words in (["show", FIRST], ["tail"], ["show", FIRST, "--json"], ["tail", "--json"]):
        done = run(*words, "--store", url)
        assert done.exit_code == 0, done.output
        assert "{broken" in done.output
    assert run("audit", "verify", "--store", url).exit_code == 1
    with sqlite3.connect(tmp_path / "g.db") as db:
        db.execute("UPDATE conversation_events SET event_type = 'request.sent' WHERE seq = 2")
    db.close()
    done = run("diff", FIRST, "--store", url)
    assert done.exit_code == 1
    assert "audit verify" in done.output


# -- for machines --------------------------------------------------------------------------------------------------------


def test_every_command_speaks_json(url: str, tmp_path: Path) -> None:
    def told(*words: str) -> list[Any]:
        done = run(*words, "--json", "--store", url)
        assert done.exit_code == 0, done.output
        return [json.loads(each) for each in done.output.splitlines()]

    assert told("audit", "verify") == [{"calls": 2, "events": 8, "open": 0, "pruned": 0, "findings": []}]
    assert [each["seq"] for each in told("tail", "-n", "1")] == [0, 1, 2, 3]
    assert told("diff", FIRST) == [{"call_id": FIRST, "request": [], "response": [], "notes": []}]
    assert told("db", "migrate") == [{"schema": schema_of(url)}]
    file = str(tmp_path / "all.jsonl")
    assert told("db", "export", file) == [{"rows": 8, "file": file}]
    assert told("db", "prune", "--older-than", "1d") == [{"deleted": 2}]
    assert told("calls") == []


@pytest.mark.parametrize("url", ["sqlite:///{}/g.db"], indirect=True)
def test_a_number_that_is_none_is_json_too(url: str) -> None:
    last = exchange_rows(1, "first", session_id="s")[-1]
    details = {"event": "e", "score": float("nan"), "most": float("inf"), "least": [-float("inf"), 1.5]}
    store = open_store(url)
    store.open()
    stored = json.dumps(details)  # as it was before numbers that are none were stored as texts
    store.write([chained(FIRST, last.seq + 1, 1.0, "policy.record", "p", stored, last.hash)])
    store.close()
    for command in (("show", FIRST), ("tail",), ("diff", FIRST)):
        done = run(*command, "--json", "--store", url)
        found = [json.loads(line, parse_constant=pytest.fail) for line in done.output.splitlines()]
        shown = [each["payload"] for each in found if each.get("event_type") == "policy.record"]
        assert command[0] != "show" or shown[1:] == [
            {"event": "e", "score": "NaN", "most": "Infinity", "least": ["-Infinity", 1.5]}
        ]


# -- retention -----------------------------------------------------------------------------------------------------------


def test_what_is_deleted_was_exported_whole(tmp_path: Path) -> None:
    """Also the facts of a call that came after the line was drawn."""
    url, file = f"sqlite:///{tmp_path}/g.db", tmp_path / "old.jsonl"
    now = time.time()
    store = open_store(url)
    store.open()
    first = chained(FIRST, 0, now - 90, "request.received", None, "{}", "")
    store.write([first, chained(FIRST, 1, now - 30, "exchange.closed", None, "{}", first.hash)])
    store.write([chained(SECOND, 0, now - 30, "request.received", None, "{}", "")])
    store.close()
    done = run("db", "prune", "--older-than", "1m", "--export", str(file), "--store", url)
    assert done.output == f"2 rows in {file}\n1 calls deleted\n"
    assert [json.loads(each)["call_id"] for each in file.read_text().splitlines()] == [FIRST, FIRST]
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600, "prompts are nobody else's business"
    assert run("audit", "verify", "--store", f"jsonl:///{file}").exit_code == 0, "an export is a store"


@pytest.mark.skipif(os.name != "posix", reason="no links and modes as here")
def test_an_export_follows_no_link_and_takes_over_no_file(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (tmp_path / "victim").write_text("precious")
    (folder / "a.jsonl.part").symlink_to(tmp_path / "victim")
    (folder / "b.jsonl.part").write_text("open to all")
    (folder / "b.jsonl.part").chmod(0o666)
    for name in ("a.jsonl", "b.jsonl"):
        assert run("db", "export", str(folder / name), "--store", url).exit_code == 0
        assert not (folder / name).is_symlink()
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "victim").read_text() == "precious"
    assert {each.name for each in folder.iterdir()} == {
        f"{name}.jsonl{end}" for name in "ab" for end in ("", ".part")
    }


@pytest.mark.parametrize("dangling", [False, True])
def test_an_export_replaces_nothing_that_appeared_meanwhile(url: str, tmp_path: Path, dangling: bool) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    file = folder / "f.jsonl"

    def appear(_: int) -> None:
        if dangling:
            file.symlink_to("nowhere")
        else:
            file.write_text("precious")

    store = open_store(url)
    store.open()
    write = writer_for(file)
    with pytest.raises(FileExistsError):
        exported(store, file, write, None, appear)
    store.close()
    assert file.is_symlink() if dangling else file.read_text() == "precious"
    assert [*folder.iterdir()] == [file]
    with pytest.raises(ConfigError, match="is there already"):
        writer_for(file)


def test_an_export_that_cannot_be_written_deletes_nothing(url: str, tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text("precious")
    for file, says in ((there, "is there already"), (tmp_path / "no" / "f.jsonl", "is no folder")):
        done = run("db", "prune", "--older-than", "1d", "--export", str(file), "--store", url)
        assert done.exit_code == 2
        assert says in done.output
    assert there.read_text() == "precious"
    assert json.loads(run("db", "stats", "--json", "--store", url).output)["calls"] == 2


def test_too_much_is_exported_as_a_whole_and_pruned(url: str, tmp_path: Path) -> None:
    file = tmp_path / "all.parquet"
    done = run("db", "prune", "--max-bytes", "1", "--export", str(file), "--json", "--store", url)
    assert json.loads(done.output)["rows"] == 8


def test_memory_cannot_be_asked() -> None:
    done = run("calls", "--store", "memory://")
    assert done.exit_code == 2
    assert "ends with its process" in done.output


def test_a_name_with_spaces_is_no_row_of_columns(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/g.db"
    store = open_store(url)
    store.open()
    store.write(exchange_rows(1, model=" gpt   success  -  - "))
    store.close()
    heads, row = run("calls", "--store", url).output.splitlines()
    assert len(re.split(" {2,}", row)) == len(re.split(" {2,}", heads)) == 6
    assert r"\x20gpt\x20\x20 success\x20 -\x20 -\x20" in row


# -- the terminal --------------------------------------------------------------------------------------------------------


def test_tables_are_rich_where_somebody_watches() -> None:
    from rich.console import Console

    out = io.StringIO()
    rich_table(
        Console(file=out, force_terminal=True, width=100), ("call", "outcome"), [("[red]:smile:", "blocked")]
    )
    assert "[red]:smile:" in out.getvalue(), "no markup is read in a stranger's text"
    assert "\x1b[31mblocked" in out.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C of a process on POSIX")
def test_the_tail_follows_until_ctrl_c(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/g.db"
    store = open_store(url)
    store.open()
    store.write(exchange_rows(1))
    command = [sys.executable, "-m", "luthien_guard.cli", "tail", "-f", "--json", "--store", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline()) for _ in range(3)]
        store.write(exchange_rows(2))
        seen += [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    store.close()
    assert [(each["call_id"], each["seq"]) for each in seen] == [
        (id, seq) for id in (FIRST, SECOND) for seq in range(3)
    ]
    assert (process.returncode, out, err.strip()) == (0, "", "")
