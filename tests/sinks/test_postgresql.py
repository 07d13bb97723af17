"""The store on a real PostgreSQL keeps what `check_sink` asks of any; and what only a server can get wrong."""

from __future__ import annotations

import random
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.query import audit
from luthien_guard.sinks.postgresql import PostgresStore
from luthien_guard.sinks.postgresql.connection import Connection
from luthien_guard.sinks.postgresql.driver import Database
from luthien_guard.sinks.postgresql.partitions import day_of
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.sinks.urls import open_store
from luthien_guard.store import CallFilter, Row, chained, payload_of
from luthien_guard.testing.sinks import check_sink, exchange_rows
from tests.sinks.proxy import proxied
from tests.sinks.servers import admin

TABLES = ("conversation_calls", "conversation_events", "conversation_pruned", "schema_migrations")
DAYS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'conversation_events'::regclass"


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    store = PostgresStore(database)
    store.open()
    yield store
    store.close()


def of_day(back: int, *texts: str, number: int = 0, **request: object) -> list[Row]:
    """An exchange of so many days ago; its id says so, as the ids of exchanges do."""
    at = time.time() - back * 86400 + number / 1000
    digits = f"{int(at * 1000):012x}"
    call_id = f"{digits[:8]}-{digits[8:]}-7000-8000-{number:012x}"
    rows: list[Row] = []
    for row in exchange_rows(1, *texts, **request):
        before = rows[-1].hash if rows else ""
        rows.append(chained(call_id, row.seq, at, row.event_type, row.policy, row.payload, before))
    return rows


def days(url: str) -> set[str]:
    return {name for (name,) in admin(url, DAYS)} - {"conversation_events_other"}


# -- the promises ------------------------------------------------------------------------------------------------------


def test_it_keeps_the_promises(database: str) -> None:
    check_sink(lambda: open_store(database))


def test_both_schemas_agree(database: str, store: PostgresStore, tmp_path: Path) -> None:
    SqliteStore(tmp_path / "s").open()
    with sqlite3.connect(tmp_path / "s") as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite_%'")]  # fmt: skip
        here = {name: [column[1] for column in db.execute(f"PRAGMA table_info({name})")] for name in names}
    db.close()
    query = "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND c.relnamespace = 'public'::regnamespace ORDER BY a.attnum"
    there: dict[str, list[str]] = {}
    for table, column in admin(database, query):
        there.setdefault(table, []).append(column)
    assert sorted(there) == list(TABLES)
    assert there == here


def test_conflicts_change_nothing_of_the_call(store: PostgresStore) -> None:
    rows = exchange_rows(1)
    store.write(rows)
    before = store.call(rows[0].call_id)
    forged = chained(
        rows[-1].call_id, rows[-1].seq, 5.0, rows[-1].event_type, None, '{"outcome":"success"}', ""
    )
    assert store.write([forged, forged]).conflicts == (forged, forged)
    assert store.call(rows[0].call_id) == before


def test_what_clients_choose_is_stored_whatever_it_is(store: PostgresStore) -> None:
    long = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=50_000))
    for number, nasty in enumerate(["a\0b", "\udc80", long, 17, {"a": "\0"}, ["x"]], 1):
        rows = exchange_rows(number, model=nasty, session_id=nasty, user_id=nasty, endpoint=nasty)
        assert store.write(rows).stored == len(rows)
    assert [call.call_id for call in store.calls(CallFilter(session_id="a\0b"))] == [
        exchange_rows(1)[0].call_id
    ]
    assert len(store.calls(CallFilter(session_id=long))) == 1
    assert store.calls(CallFilter(text="\0 \udc80 %")) == []


def test_a_row_that_the_server_refuses_leaves_nothing_behind(store: PostgresStore) -> None:
    good = exchange_rows(1)
    bad = chained("x", 0, 1.0, "t", None, "\0", "")
    with pytest.raises(SinkError, match="0x00"):
        store.write([*good, bad])
    assert store.rows(good[0].call_id) == []
    assert store.write(good).stored == len(good)


def test_big_numbers_of_rows_and_big_rows(store: PostgresStore) -> None:
    rows = [row for number in range(2000) for row in exchange_rows(number, "x")]
    assert store.write(rows).stored == 8000
    payload = payload_of({"text": "y" * 20_000_000})
    assert store.write([chained("big", 0, 1.0, "t", None, payload, "")], durable=True).stored == 1
    assert store.rows("big")[0].payload == payload


# -- days --------------------------------------------------------------------------------------------------------------


def test_every_day_has_its_partition_ahead(database: str, store: PostgresStore) -> None:
    store.write([*of_day(0), *of_day(5), *of_day(6)])
    assert len(days(database)) == 4  # and tomorrow
    assert admin(database, "SELECT count(*) FROM conversation_events_other") == [(0,)]
    today = time.strftime("conversation_events_%Y%m%d", time.gmtime(of_day(0)[0].at))
    assert today in days(database)


@pytest.mark.parametrize("call_id", ["", "x", "zzzzzzzz-zzzz-7", "FFFFFFFF-FFFF-7000", "00000000-0000-7000", "ffffffff-ffff-7000"])  # fmt: skip
def test_ids_without_a_day_have_a_place(store: PostgresStore, database: str, call_id: str) -> None:
    assert day_of(call_id) is None
    row = chained(call_id, 0, 1.0, "t", None, "{}", "")
    assert store.write([row]).stored == 1
    assert store.write([row]).known == 1
    assert store.rows(call_id) == [row]
    assert admin(database, "SELECT count(*) FROM conversation_events_other") == [(1,)]


def test_rows_that_came_before_their_partition_move_there(database: str, store: PostgresStore) -> None:
    rows = of_day(3)
    store.write(rows)
    (name,) = [
        name for name in days(database) if name.endswith(time.strftime("%Y%m%d", time.gmtime(rows[0].at)))
    ]
    columns = "position, call_id, seq, at, event_type, policy, payload, prev_hash, hash"
    admin(
        database,
        f"ALTER TABLE conversation_events DETACH PARTITION {name}",
        f"INSERT INTO conversation_events ({columns}) SELECT {columns} FROM {name}",
        f"DROP TABLE {name}",
        "SELECT 1",
    )
    assert admin(database, "SELECT count(*) FROM conversation_events_other") == [(len(rows),)]
    other = PostgresStore(database)
    other.open()
    assert other.write(rows).known == len(rows)
    other.close()
    assert admin(database, f"SELECT count(*) FROM {name}") == [(len(rows),)]
    assert store.rows(rows[0].call_id) == rows


def test_whoever_may_not_make_partitions_still_writes(database: str, store: PostgresStore) -> None:
    admin(
        database,
        "DROP ROLE IF EXISTS luthien_writer",
        "CREATE ROLE luthien_writer LOGIN",
        "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO luthien_writer",
        "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO luthien_writer",
        "SELECT 1",
    )
    lesser = PostgresStore(database.replace("postgres:@", "luthien_writer:@", 1))
    lesser.open()
    assert lesser.write(of_day(0)).stored == len(of_day(0))
    lesser.close()
    admin(database, "DROP OWNED BY luthien_writer", "DROP ROLE luthien_writer", "SELECT 1")


# -- retention ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("events_only", [False, True])
def test_pruning_drops_whole_days_where_it_can(
    database: str, store: PostgresStore, events_only: bool
) -> None:
    for back in (5, 4, 3, 0):
        store.write([row for number in range(3) for row in of_day(back, number=number)])
    before = len(days(database))
    assert store.prune(before=time.time() - 3.5 * 86400, events_only=events_only) == 6
    assert len(days(database)) == before - 2
    assert store.stats()["calls"] == (12 if events_only else 6)
    assert store.stats()["events"] == 6 * len(of_day(0))
    assert store.prune(before=time.time() - 3.5 * 86400, events_only=events_only) == 0


def test_of_a_day_that_is_partly_younger_only_the_old_calls_go(database: str, store: PostgresStore) -> None:
    old, young = exchange_rows(1), exchange_rows(2)  # one day by their ids
    store.write([*old, *young])
    before = days(database)
    assert store.prune(before=1500.0) == 1
    assert days(database) == before
    assert store.rows(old[0].call_id) == []
    assert store.rows(young[0].call_id) == young


@pytest.mark.parametrize("events_only", [False, True])
def test_a_day_of_which_something_was_not_seen_is_not_dropped(
    store: PostgresStore, events_only: bool
) -> None:
    seen_whole, growing, late = (of_day(5, number=number) for number in range(3))
    store.write([*seen_whole, *growing[:-1], *of_day(0)])
    seen, _ = store.tail()
    store.write([*late, growing[-1]])
    for limit in ({"before": time.time() - 86400}, {"max_bytes": 0}):
        store.prune(events_only=events_only, seen=seen, **limit)
        assert store.rows(seen_whole[0].call_id) == []
        assert store.rows(growing[0].call_id) == growing
        assert store.rows(late[0].call_id) == late


@pytest.mark.parametrize("by_size", [False, True])
def test_rows_that_no_line_has_are_pruned_by_their_ids(
    database: str, store: PostgresStore, by_size: bool
) -> None:
    old, listed, young, newest = of_day(5), of_day(4), of_day(3, number=1), of_day(0)
    store.write([*old, *listed, *young, *newest])
    admin(database, f"DELETE FROM conversation_calls WHERE call_id IN ('{old[0].call_id}', '{young[0].call_id}')", "SELECT 1")  # fmt: skip
    if by_size:
        store.prune(max_bytes=0)
        assert store.rows(young[0].call_id) == []
    else:
        store.prune(before=time.time() - 3.5 * 86400)
        assert store.rows(young[0].call_id) == young
    assert store.rows(old[0].call_id) == []
    assert store.rows(listed[0].call_id) == []
    assert store.rows(newest[0].call_id) == newest


def test_pruning_by_size_drops_the_oldest_days_first(database: str, store: PostgresStore) -> None:
    noise = random.Random(1).randbytes(400_000).hex()
    oldest, *_ = exchanges = [of_day(back, noise) for back in (4, 3, 0)]
    for rows in exchanges:
        store.write(rows)
    size = store.stats()["bytes"]
    before = days(database)
    assert store.prune(max_bytes=size - 200_000) == 1
    assert len(days(database)) == len(before) - 1
    assert (
        len(store.calls(CallFilter(since=time.time() - 3.5 * 86400))) == len(store.calls(CallFilter())) == 2
    )
    assert store.write(oldest[1:]).pruned == len(oldest) - 1, "what went does not come again"
    assert store.write(of_day(4, number=1)).stored, "but its day can, with a younger call"
    assert store.prune(max_bytes=0) == 2, "the newest stays"


# -- several, and failures ---------------------------------------------------------------------------------------------


def test_many_may_start_at_once(database: str) -> None:
    stores = [PostgresStore(database) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(PostgresStore.open, stores))
        written = list(pool.map(lambda store: store.write(exchange_rows(1)), stores))
    assert sum(each.stored for each in written) == 3
    assert sum(each.known for each in written) == 3 * 5
    for store in stores:
        store.close()


def test_threads_that_share_one_store_wait_for_each_other(store: PostgresStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda number: store.write(exchange_rows(number)), range(40)))
        found = list(pool.map(lambda number: store.rows(exchange_rows(number)[0].call_id), range(40)))
    assert [each.stored for each in written] == [3] * 40
    assert found == [exchange_rows(number) for number in range(40)]


def test_closing_ends_what_runs(database: str) -> None:
    store = PostgresStore(database)
    store.open()
    store.write(exchange_rows(1))
    started = threading.Event()

    def run() -> None:
        async def sleep(db: Any) -> None:
            started.set()
            await db.execute("SELECT pg_sleep(20)")

        store._db.run(sleep)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        assert started.wait(30)
        store.close()
        with pytest.raises(SinkError):
            running.result(15)


def test_a_tail_misses_nothing_of_many_writers(database: str, store: PostgresStore) -> None:
    def write(worker: int) -> None:
        writer = PostgresStore(database)
        writer.open()
        for number in range(worker * 1000, worker * 1000 + 40):
            writer.write(exchange_rows(number))
        writer.close()

    position, _ = store.tail()
    seen: list[tuple[str, int]] = []
    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(write, worker) for worker in range(4)]
        while True:
            done = all(each.done() for each in working)
            position, rows = store.tail(position, limit=7)
            seen += [(row.call_id, row.seq) for row in rows]
            if done and not rows:
                break
    for each in working:
        each.result()
    assert len(seen) == len(set(seen)) == 4 * 40 * 3


def written_at_last(store: PostgresStore, rows: list[Row]) -> int:
    """How many there are when a write has got through, which it must within a few tries."""
    for _ in range(5):
        try:
            store.write(rows)
            break
        except SinkError as error:
            told = str(error)
            assert "s3cret" not in told
    return len(store.rows(rows[0].call_id))


def test_a_connection_that_was_cut_is_made_anew(database: str) -> None:
    with proxied(database) as proxy:
        store = PostgresStore(proxy.url)
        store.open()
        for number in range(1, 4):
            proxy.cut()
            assert written_at_last(store, exchange_rows(number)) == 3
        store.close()


def test_what_ended_a_connection_is_told_and_not_that_its_transaction_cannot_be_ended_then(
    database: str,
) -> None:
    async def nothing(_: Any) -> None:
        pass

    async def dismissed(db: Database) -> None:
        async with db.transaction():
            await db.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    connection = Connection(database, nothing)
    connection.open()
    with pytest.raises(SinkError, match="terminating connection due to administrator command"):
        connection.run(dismissed)
    connection.run(nothing)  # over another one
    connection.close()


def test_a_server_that_falls_silent_is_given_up_in_time(database: str) -> None:
    with proxied(database) as proxy:
        store = PostgresStore(proxy.url, patience=0.5)
        store.open()
        proxy.speaking.clear()
        with pytest.raises(SinkError, match="did not answer in time"):
            store.write(exchange_rows(1))
        with pytest.raises(SinkError, match="did not answer in time"):
            store.calls(CallFilter())
        proxy.speaking.set()
        assert written_at_last(store, exchange_rows(1)) == 3
        proxy.speaking.clear()
        store.close()  # ends, too


def test_a_slow_writer_is_ended_and_nothing_of_it_stays(database: str, store: PostgresStore) -> None:
    slow = PostgresStore(database, patience=0.5)
    slow.open()
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        import anyio
        import asyncpg

        async def run() -> None:
            db = await asyncpg.connect(database)
            async with db.transaction():
                await db.execute("LOCK TABLE conversation_calls IN EXCLUSIVE MODE")
                holding.set()
                await anyio.to_thread.run_sync(done.wait)
            await db.close()

        anyio.run(run)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(30)
    with pytest.raises(SinkError):
        slow.write(exchange_rows(1))
    done.set()
    thread.join()
    assert store.rows(exchange_rows(1)[0].call_id) == []
    assert slow.write(exchange_rows(1)).stored == 3
    slow.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://", "postgresql://host", "postgresql://u:s3cret@host:x/db", "postgresql://u:s3cret@host:0/db",
        "postgresql://u:s3cret@host/", "postgresql://u:s3cret@[::1/db", "postgresql://u:s3cret@h/db#f",
    ],
)  # fmt: skip
def test_a_malformed_url_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="is expected") as told:
        open_store(url)
    assert "s3cret" not in str(told.value)


def test_a_server_that_cannot_be_reached_is_told_precisely(database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url, says in {
        f"postgresql://u:s3cret@127.0.0.1:{port}/db": f"127.0.0.1:{port}/db: .*refused|Connect call failed",
        database.replace("/luthien_", "/no_such_"): "does not exist",
        database.replace("postgres:@", "nobody:s3cret@", 1): 'role "nobody" does not exist',
        f"{database}&sslmode=s3cret&password=s3cret": "sslmode",
    }.items():
        with pytest.raises(SinkError, match=says) as told:
            open_store(url).open()
        chain = told.value.__cause__
        assert "s3cret" not in f"{told.value!r} {chain!r}"


def test_a_schema_of_before_is_brought_up_to_date(database: str, store: PostgresStore) -> None:
    store.write(exchange_rows(1))
    admin(
        database,
        "DROP TABLE conversation_pruned",
        "DELETE FROM schema_migrations WHERE version > 1",
        "SELECT 1",
    )
    store.close()
    store.open()
    assert store.stats()["schema"] == 2
    assert store.rows(exchange_rows(1)[0].call_id) == exchange_rows(1)
    assert store.prune(before=1e12) == 1


def test_a_schema_from_the_future_is_refused(database: str, store: PostgresStore) -> None:
    admin(database, "INSERT INTO schema_migrations VALUES (99, 0)", "SELECT 1")
    with pytest.raises(SinkError, match=r"schema 99, and this version knows \d+ at most"):
        PostgresStore(database).open()


def test_a_replica_can_be_asked_and_whoever_takes_over_is_connected_to(
    database: str, store: PostgresStore
) -> None:
    store.write(exchange_rows(1))
    name = urlsplit(database).path[1:]
    admin(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on", "SELECT 1")
    replica = PostgresStore(database)
    replica.open()
    assert replica.rows(exchange_rows(1)[0].call_id) == exchange_rows(1)
    assert audit(replica).findings == []
    with pytest.raises(SinkError, match="read-only"):
        replica.write(exchange_rows(2))
    admin(database, "SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET default_transaction_read_only", "SELECT 1")  # fmt: skip
    assert replica.write(exchange_rows(2)).stored == len(exchange_rows(2))
    replica.close()


def test_whoever_may_only_read_can_open_it(database: str, store: PostgresStore) -> None:
    store.write(exchange_rows(1))
    admin(
        database,
        "DROP ROLE IF EXISTS luthien_reader",
        "CREATE ROLE luthien_reader LOGIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO luthien_reader",
        "SELECT 1",
    )
    reader = PostgresStore(database.replace("postgres:@", "luthien_reader:@", 1))
    reader.open()
    assert reader.rows(exchange_rows(1)[0].call_id) == exchange_rows(1)
    with pytest.raises(SinkError, match="permission denied"):
        reader.write(exchange_rows(2))
    reader.close()
    admin(database, "DROP OWNED BY luthien_reader", "DROP ROLE luthien_reader", "SELECT 1")
