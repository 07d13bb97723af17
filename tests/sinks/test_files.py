"""What happens to files: full disks, locks, damage, several processes, refused schemas."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.query import audit
from luthien_guard.sinks.jsonl import JsonlStore
from luthien_guard.sinks.jsonl.files import private
from luthien_guard.sinks.jsonl.lines import line_of
from luthien_guard.sinks.memory import MemoryStore
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import CallFilter, chained
from luthien_guard.testing.sinks import exchange_rows

_OPENS_AND_WRITES = """
import sys
from pathlib import Path
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.testing.sinks import exchange_rows
path, first = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
store = SqliteStore(path)
store.open()
for number in range(first, first + 40):
    store.write(exchange_rows(number), durable=number % 10 == 0)
store.close()
"""

# A limit on the size of a file is what a full disk looks like, and needs no disk. Prints what it acknowledged.
_FILLS_THE_DISK = """
import resource, sys
from luthien_guard.errors import SinkError
from luthien_guard.sinks.urls import open_store
from luthien_guard.testing.sinks import exchange_rows
store = open_store(sys.argv[1])
store.open()
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
number = 1
try:
    while True:
        store.write(exchange_rows(number, "x" * 1000))
        number += 1
except SinkError as error:
    print(error, file=sys.stderr)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for call in range(1, number):
    assert store.rows(exchange_rows(call)[0].call_id) == exchange_rows(call, "x" * 1000), call
assert not store.rows(exchange_rows(number)[0].call_id), "all of it or nothing"
assert store.write(exchange_rows(number, "x" * 1000), durable=True).stored == 4, "the same rows, again"
assert len(store.rows(exchange_rows(number)[0].call_id)) == 4
assert store.tail(0, limit=10**6)[1][-1] == exchange_rows(number, "x" * 1000)[-1]
print(number)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
@pytest.mark.parametrize("url", ["sqlite:///{}/s.db", "jsonl:///{}/s.jsonl"])
def test_a_full_disk_is_told_and_leaves_whole_batches(url: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _FILLS_THE_DISK, url.format(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 5
    assert str(tmp_path) in ran.stderr


def test_processes_that_open_and_write_one_file_at_once_lose_nothing(tmp_path: Path) -> None:
    path, count = tmp_path / "s.db", 4
    command = [sys.executable, "-c", _OPENS_AND_WRITES, str(path)]
    running = [
        subprocess.Popen(
            [*command, str(100 * (n + 1))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in range(count)
    ]
    for each in running:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    follower = SqliteStore(path)
    follower.open()
    position, seen = 0, []
    # A row that is committed late must not be passed over.
    while any(each.poll() is None for each in running):
        position, rows = follower.tail(position, limit=7)
        seen += rows
    while rows := follower.tail(position, limit=500)[1]:
        position, _ = follower.tail(position, limit=500)
        seen += rows
    assert [each.wait(30) for each in running] == [0] * count
    for each in running:
        each.communicate()
    wanted = {row for n in range(count) for at in range(40) for row in exchange_rows(100 * (n + 1) + at)}
    assert len(seen) == len(wanted) and set(seen) == wanted
    follower.close()


def test_a_file_that_somebody_else_writes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path, patience=0.05)
    store.open()
    store.write(exchange_rows(1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SinkError, match=r"s\.db: database is locked"):
        store.write(exchange_rows(2))
    asks = SqliteStore(path, patience=0.05)
    asks.open()  # who only asks waits for nobody
    assert len(asks.calls(CallFilter())) == 1
    other.execute("ROLLBACK")
    other.close()
    assert store.write(exchange_rows(2)).stored == 3
    asks.close()
    store.close()


def test_a_refused_schema_stays_closed(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    store.open()
    store.close()
    db = sqlite3.connect(path)
    db.execute("INSERT INTO schema_migrations VALUES (99, 0)")
    db.commit()
    db.close()
    for _ in range(2):  # whoever tries again is told again
        with pytest.raises(SinkError, match=r"schema 99, and this version knows \d+ at most"):
            store.open()
    with pytest.raises(SinkError, match="not open"):
        store.write(exchange_rows(1))


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    store.open()
    store.write([row for n in range(300) for row in exchange_rows(n, "x" * 500)])
    store.close()
    raw = path.read_bytes()
    path.write_bytes(raw[:8192] + b"\xff" * (len(raw) - 12288) + raw[-4096:])
    # Here or there: what is read when is up to SQLite.
    with pytest.raises(SinkError, match=r"s\.db: .*malformed"):
        store.open()
        store.tail(0, limit=10**6)
    store.close()


def test_a_file_of_lines_has_one_writer(tmp_path: Path) -> None:
    one, two = JsonlStore(tmp_path / "s.jsonl"), JsonlStore(tmp_path / "s.jsonl")
    one.open()
    one.write(exchange_rows(1))
    two.open()
    assert two.rows(exchange_rows(1)[0].call_id) == exchange_rows(1), "but any number of readers"
    for forbidden in (lambda: two.write(exchange_rows(2)), lambda: two.prune(before=1e9)):
        with pytest.raises(SinkError, match="somebody else writes it"):
            forbidden()
    one.close()
    assert two.write(exchange_rows(2)).stored == 3
    assert two.prune(before=1500.0) == 1
    assert two.write(exchange_rows(2)).known == 3, "known after the file was written anew"
    one.open()
    with pytest.raises(SinkError, match="somebody else writes it"):
        one.write(exchange_rows(3))
    one.close()
    two.close()


def test_a_damaged_line_costs_its_row_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store = JsonlStore(path)
    store.open()
    one, two = exchange_rows(5), exchange_rows(6)
    store.write([*one, *two])
    store.close()
    found = path.read_bytes().splitlines(keepends=True)
    found[1] = b'{"half": "a row"}\n'
    path.write_bytes(b"".join(found))
    store.open()
    assert store.damage() == ["line 2 is no row"]
    assert store.rows(two[0].call_id) == two
    assert store.rows(one[0].call_id) == [one[0], *one[2:]]
    assert store.tail(0)[1] == [one[0], *one[2:], *two]
    assert [call.outcome for call in store.calls(CallFilter())] == ["success", "blocked"]
    assert store.stats()["events"] == len(found) - 1
    findings = audit(store).findings
    assert [(each.call_id, each.seq, each.problem) for each in findings] == [
        ("", 0, "line 2 is no row"),
        (one[0].call_id, 1, "a row is missing"),
    ]
    assert store.write([*one, *exchange_rows(7)]).stored == 1 + 3, "what is sent again is whole again"
    assert store.rows(one[0].call_id) == one
    assert store.prune(before=6000.0) == 1
    assert store.damage() == [], "it stood before everything that is kept"
    store.close()


def test_what_is_found_by_its_time_is_what_a_prune_deletes(tmp_path: Path) -> None:
    """Who exports before lists first; a line that stands before the beginning of its call may say anything."""
    store = JsonlStore(tmp_path / "s.jsonl")
    store.open()
    rows = exchange_rows(2)
    store.write([chained(rows[0].call_id, 9, 1.0, "policy.record", None, "{}", ""), *rows])
    assert store.calls(CallFilter(until=1500.0)) == []
    assert store.prune(before=1500.0) == 0
    store.close()


FOREIGN = b'{"precious": "configuration without a newline at its end"}'


def test_a_file_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious.json"
    path.write_bytes(FOREIGN)
    with pytest.raises(SinkError, match="none of its lines is a row"):
        JsonlStore(path).open()
    assert path.read_bytes() == FOREIGN


@pytest.mark.parametrize("half", [b"{", b'{"call_id"', b'{"call_id":"0190'])
def test_the_first_row_that_a_dying_process_left_is_mended(half: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(half)
    store = JsonlStore(path)
    store.open()
    store.write(exchange_rows(1))
    assert store.tail(0)[1] == exchange_rows(1)
    assert store.damage() == []
    store.close()


def test_what_somebody_else_wrote_behind_the_rows_is_kept_and_told(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    for foreign in (FOREIGN, b"note"):
        store = JsonlStore(path)
        store.open()
        store.write(exchange_rows(1))
        store.close()
        with path.open("ab") as file:
            file.write(foreign)
        store.open()
        store.write(exchange_rows(2))
        assert store.damage() == [f"line {len(exchange_rows(1)) + 1} is no row"]
        assert foreign + b"\n" in path.read_bytes()
        assert store.rows(exchange_rows(2)[0].call_id) == exchange_rows(2)
        store.close()
        path.unlink()


@pytest.mark.skipif(sys.platform == "win32", reason="no such modes")
def test_a_file_that_is_written_anew_is_never_for_others(tmp_path: Path) -> None:
    """Also over what a prune left that died."""
    path = tmp_path / "s.jsonl"
    stale = tmp_path / "s.jsonl.new"
    stale.write_bytes(b"stale")
    stale.chmod(0o666)
    with private(stale) as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
        assert os.fstat(file.fileno()).st_size == 0
    store = JsonlStore(path)
    store.open()
    store.write([*exchange_rows(1), *exchange_rows(2)])
    assert store.prune(before=1500.0) == 1
    assert store.tail(0)[1] == exchange_rows(2)
    store.close()
    assert not stale.exists()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_was_changed_under_a_reader_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store = JsonlStore(path)
    store.open()
    store.write(exchange_rows(5))
    assert audit(store).findings == []
    path.write_bytes(path.read_bytes().replace(b'"m\\"', b'"n\\"', 1))
    assert [(each.seq, each.problem) for each in audit(store).findings] == [(0, "it is not what was written")]
    store.close()


def test_a_tail_begins_after_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    store = JsonlStore(path)
    store.open()
    store.write(exchange_rows(1))
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"call_id": "half')
    reader = JsonlStore(path)
    reader.open()
    position, _ = reader.tail()
    assert position == len(whole)
    store.open()
    store.write(exchange_rows(2))
    assert reader.tail(position)[1] == exchange_rows(2)
    reader.close()
    store.close()


@pytest.mark.parametrize("make", [SqliteStore, JsonlStore])
def test_a_closed_store_answers_with_a_sink_error(make: Callable[[Path], Any], tmp_path: Path) -> None:
    store = make(tmp_path / "s")
    for ask in (store.stats, store.tail, store.unfinished, lambda: store.calls(CallFilter())):
        with pytest.raises(SinkError, match="not open"):
            ask()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///:memory:", "is memory://"),
        ("sqlite:///a%00b", "is expected"),
        ("sqlite://[x", "is expected"),
        ("sqlite:///%20", "is expected"),
        ("jsonl:///x?y=1", "is expected"),
        ("jsonl://host/x", "is expected"),
        ("", "is no URL"),
        ("://", "nothing is installed"),
    ],
)
def test_other_wrong_urls_are_told(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    ["postgresql:/u:hunter2@h/d", "sqlite://u:hunter2@h/d", "sqlite://u:/hunter2@h", "sqlite://u:a@hunter2@h",
     "postgresql:u@h?password=hunter2"],
)  # fmt: skip
def test_a_malformed_url_does_not_tell_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as told:
        open_store(url)
    assert "hunter2" not in str(told.value)


def test_a_scheme_has_no_case(tmp_path: Path) -> None:
    assert isinstance(open_store(f"SQLite:///{tmp_path}/s.db"), SqliteStore)


@pytest.mark.parametrize("url", ["sqlite:///{}/s.db", "jsonl:///{}/s.jsonl", "memory://"])
def test_pruning_by_size_takes_no_more_than_it_must(url: str, tmp_path: Path) -> None:
    store = open_store(url.format(tmp_path))
    store.open()
    for number in range(1, 21):
        store.write(exchange_rows(number, "x" * 100_000))
    assert store.prune(max_bytes=store.stats()["bytes"]) == 0
    assert 1 <= store.prune(max_bytes=store.stats()["bytes"] - 150_000) <= 3
    assert len(store.rows(exchange_rows(4)[0].call_id)) == 4
    store.prune(max_bytes=0)
    assert [call.call_id for call in store.calls(CallFilter())] == [exchange_rows(20)[0].call_id], (
        "the newest stays"
    )
    store.close()


def test_a_store_in_memory_has_a_bound() -> None:
    store = MemoryStore(max_bytes=2_000_000)
    store.open()
    for number in range(1, 101):
        store.write(exchange_rows(number, "x" * 100_000))
        assert store.stats()["bytes"] <= 2_000_000
    kept = store.calls(CallFilter(limit=1000))
    assert kept[0].call_id == exchange_rows(100)[0].call_id
    assert 10 < len(kept) < 20
    store.close()


def test_how_far_retention_went_is_known_at_any_moment(tmp_path: Path) -> None:
    """A disk that is full, or a process that dies, may not leave half of it."""
    store = JsonlStore(tmp_path / "s.jsonl")
    store.open()
    store.write([row for number in (1, 2, 3) for row in exchange_rows(number)])
    store.prune(before=1500.0)
    (tmp_path / "s.jsonl.pruned").rename(tmp_path / "before")
    (tmp_path / "s.jsonl.pruned").hardlink_to(tmp_path / "before")
    store.prune(before=2500.0)
    assert (tmp_path / "before").read_text() == exchange_rows(1)[0].call_id, "nothing is written in place"
    assert store.pruned() == exchange_rows(2)[0].call_id
    store.close()


def test_a_prune_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    store = JsonlStore(tmp_path / "s.jsonl")
    store.open()
    rows = [*exchange_rows(1), *exchange_rows(2)]
    store.write(rows)
    (tmp_path / "s.jsonl.pruned").mkdir()  # where it has to be remembered
    with pytest.raises(SinkError):
        store.prune(before=1500.0)
    assert {each.name for each in tmp_path.iterdir() if each.is_file()} <= {"s.jsonl", "s.jsonl.pruned.new"}
    assert store.tail(0)[1] == rows
    (tmp_path / "s.jsonl.pruned").rmdir()
    assert store.prune(before=1500.0) == 1
    store.close()


AMBIGUOUS: dict[str, Callable[[bytes], bytes]] = {
    "a key that is there twice": lambda line: line.replace(b'"seq":0', b'"seq":9,"seq":0'),
    "a key that is there twice, once escaped": lambda line: line.replace(
        b'"seq":0', b'"se\\u0071":9,"seq":0'
    ),
    "a byte-order mark": lambda line: b"\xef\xbb\xbf" + line,
    "another encoding": lambda line: (
        line.rstrip(b"\n").decode().encode("utf-32-be").replace(b"\n", b"") + b"\n"
    ),
    "bytes that are no text": lambda line: line.replace(b'"policy":null', b'"policy":"\xed\xa0\x80"'),
}


@pytest.mark.parametrize("broken", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_line_that_readers_take_for_several_things_is_no_row(
    broken: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "s.jsonl"
    first, *rest = exchange_rows(1)
    path.write_bytes(b"".join(map(line_of, [*exchange_rows(2), *rest])) + broken(line_of(first)))
    store = JsonlStore(path)
    store.open()
    assert store.damage() == [f"line {len(exchange_rows(2)) + len(rest) + 1} is no row"]
    assert store.rows(first.call_id) == rest
    store.close()
