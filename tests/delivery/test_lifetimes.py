"""Guards that start badly, twice, again, in a fork, or are never stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.callers import pepper_of
from luthien_guard.delivery.journal import Journal
from luthien_guard.delivery.storage import Storage
from luthien_guard.delivery.writers import Writer, dead_writers
from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.records import EventType, Record
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.store import CallFilter, Row, Written
from tests.asgi_drive import ask, replay
from tests.delivery.stores import ListStore

pytestmark = pytest.mark.anyio

ANSWER = replay(b'{"choices":[]}', status=200, content_type="application/json")
REQUEST = b'{"model":"m","messages":[]}'


def received(call_id: str, storage: Storage) -> Record:
    return Record(call_id, 0, 1.0, EventType.REQUEST_RECEIVED, None, {"writer": storage.writer.id})


def fact(seq: int) -> Record:
    return Record("call-1", seq, 1.0, EventType.POLICY_RECORD, None, {})


def closed(call_id: str, seq: int = 1) -> Record:
    return Record(call_id, seq, 2.0, EventType.CLOSED, None, {"outcome": "success"})


async def test_a_guard_whose_store_cannot_be_opened_says_so_every_time_and_then_starts(
    tmp_path: Path,
) -> None:
    store = ListStore(path=tmp_path / "s")
    guard = Guard(store=store)
    store.problem = "no such disk"
    for _ in range(2):
        with pytest.raises(SinkError, match="no such disk"):
            await guard.start()
    assert not list((tmp_path / "s-guard").iterdir()), "it holds no lock"
    store.problem = None
    async with guard:
        await ask(GuardMiddleware(ANSWER, guard=guard), "/v1/chat/completions", REQUEST)
    assert store.kept


async def test_who_starts_while_somebody_starts_waits_for_the_same_start(tmp_path: Path) -> None:
    opening, opened = threading.Event(), threading.Event()

    class Slow(ListStore):
        def open(self) -> None:
            opening.set()
            assert opened.wait(30)
            super().open()

    store = Slow(path=tmp_path / "s")
    guard = Guard(store=store)
    started: list[int] = []

    async def start() -> None:
        await guard.start()
        started.append(store.opened)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        await anyio.to_thread.run_sync(opening.wait, 30)
        tasks.start_soon(start)
        await anyio.wait_all_tasks_blocked()
        assert not started
        opened.set()
    assert started == [1, 1]
    await guard.stop()


async def test_a_query_or_a_tracer_that_cannot_be_closed_keeps_nothing_open(tmp_path: Path) -> None:
    class Tracer:
        def put(self, record: Record) -> None: ...

        def stop(self) -> None:
            raise OSError("no collector")

    store = ListStore(path=tmp_path / "s")
    guard = Guard(store=store, tracing=Tracer())
    await guard.start()
    await ask(GuardMiddleware(ANSWER, guard=guard), "/v1/chat/completions", REQUEST)
    with pytest.raises(OSError, match="no collector"):
        await guard.stop()
    assert guard.ledger()["in_memory"] == 0
    assert not list((tmp_path / "s-guard").iterdir())


@pytest.mark.parametrize("closed_by", ["the guard's stop", "who asked"])
async def test_who_asks_a_store_that_was_given_as_an_object_does_not_close_it(
    closed_by: str, tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "g.db")
    guard = Guard(store=store)
    async with guard:
        await guard.query.calls()
        await ask(GuardMiddleware(ANSWER, guard=guard), "/v1/chat/completions", REQUEST)
        if closed_by == "who asked":
            await guard.query.close()
    ledger = guard.ledger()
    assert (ledger["stored"], ledger["in_memory"]) == (ledger["accepted"], 0), guard.health
    with pytest.raises(SinkError, match="not open"):
        store.stats()


async def test_who_asks_a_guard_that_has_stopped_closes_its_store_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "g.db")
    guard = Guard(store=store)
    assert await guard.query.calls() == []
    await guard.query.close()
    with pytest.raises(SinkError, match="not open"):
        store.stats()


def test_a_storage_that_starts_again_counts_its_spool_once(tmp_path: Path) -> None:
    store = ListStore(remote=True, path=tmp_path / "s")
    store.problem = "away"
    storage = Storage(store, tmp_path)
    for number in range(3):
        storage.start()
        storage.journal.put(received(f"call-{number}", storage))
        storage.journal.put(closed(f"call-{number}"))
        storage.stop(0.2)
        ledger = storage.ledger.snapshot()
        assert (ledger["accepted"], ledger["spooled"]) == (2 * number + 2, 2 * number + 2)
    store.problem = None
    storage.start()
    store.wait(6)
    storage.stop()
    ledger = storage.ledger.snapshot()
    assert (ledger["accepted"], ledger["stored"]) == (6, 6)


def test_a_call_that_is_open_when_the_guard_stops_is_interrupted_by_the_next(tmp_path: Path) -> None:
    store = ListStore(path=tmp_path / "s")
    storage = Storage(store, tmp_path)
    storage.start()
    storage.journal.put(received("call-1", storage))
    storage.stop()
    following = Storage(store, tmp_path)
    following.start()
    following.stop()
    assert [row.event_type for row in store.rows("call-1")] == ["request.received", "exchange.closed"]
    assert store.rows("call-1")[-1].details["outcome"] == "interrupted"


@pytest.mark.parametrize(
    "url", ["postgresql://u:new@h:5432/d?a=b@c", "postgresql://u@h:5432/d?a=b@c&password=x"]
)
def test_a_new_password_leaves_the_spool_where_it_was(url: str) -> None:
    before = Storage("postgresql://u:old@h:5432/d?a=b@c").folder
    assert Storage(url).folder == before
    for other in (
        "u:old@h:5432/e?a=b@c",
        "v:old@h:5432/d?a=b@c",
        "u:old@i:5432/d?a=b@c",
        "u:old@h:5432/d?a=b",
    ):
        assert Storage(f"postgresql://{other}").folder != before


def away(store: ListStore) -> ListStore:
    """The same store, for somebody who cannot reach it."""
    found = ListStore(remote=True)
    found.kept, found.problem = store.kept, "away"
    return found


@pytest.mark.parametrize("heir_stops", [False, True])
def test_a_call_whose_end_waits_in_the_spool_of_its_heir_is_not_interrupted(
    tmp_path: Path, heir_stops: bool
) -> None:
    """One process dies, another takes over its spool, a third one starts before that has been carried."""
    store = ListStore(remote=True)
    first = Storage(store, tmp_path)
    first.start()
    first.journal.put(received("call-1", first))
    store.wait(1)
    store.problem = "away"
    first.journal.put(closed("call-1"))
    first.stop(0.2)

    unlucky = away(store)
    heir = Storage(unlucky, tmp_path)
    heir.start()
    if heir_stops:
        heir.stop(0.2)
        heir = Storage(unlucky, tmp_path)
        heir.start()
    store.problem = None
    third = Storage(store, tmp_path)
    third.start()
    third.journal.put(received("call-2", third))
    third.journal.put(closed("call-2"))
    store.wait(3)
    third.stop()
    unlucky.problem = None
    unlucky.changed = store.changed
    heir.stop()
    assert [row.details.get("outcome") for row in store.rows("call-1")] == [None, "success"]
    assert heir.ledger.snapshot()["conflicts"] == 0


def test_a_journal_that_hung_when_it_was_stopped_is_the_only_writer_after_a_restart() -> None:
    store = ListStore()
    journal = Journal(store)
    store.gate.clear()
    journal.start()
    journal.put(fact(0))
    assert not journal.stop(0.05)
    journal.start()
    for seq in range(1, 50):
        journal.put(fact(seq))
    store.gate.set()
    store.wait(50)
    assert journal.stop(20)
    assert [row.prev_hash for row in store.rows("call-1")][1:] == [row.hash for row in store.rows("call-1")][
        :-1
    ]
    assert journal.ledger.snapshot()["stored"] == 50


class Slow(SqliteStore):
    """Closes when its write has ended, as every store does whose driver is used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate, self.used = threading.Event(), threading.Lock()

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        with self.used:
            assert self.gate.wait(60)
            return super().write(rows, durable=durable)

    def close(self) -> None:
        with self.used:
            super().close()


def test_a_storage_stops_in_time_and_starts_again_also_where_its_store_hangs(tmp_path: Path) -> None:
    store = Slow(tmp_path / "g.db")
    storage = Storage(store, tmp_path)
    storage.start()
    storage.journal.put(received("call-1", storage))
    storage.stop(0.1)  # would wait for the gate
    store.gate.set()
    storage.start()
    storage.journal.put(closed("call-1"))
    storage.stop(30)
    assert outcomes(tmp_path / "g.db") == ["success"]
    assert storage.ledger.snapshot()["stored"] == 2


def python(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


GUARDED = """
import anyio, sys, os
from luthien_guard import Guard, GuardMiddleware
from tests.asgi_drive import ask, replay
guard = Guard(store=sys.argv[1])
app = GuardMiddleware(replay(b'{"choices":[]}', status=200, content_type="application/json"), guard=guard)
def call():
    return anyio.run(ask, app, "/v1/chat/completions", b'{"model":"m","messages":[]}')
call()
"""


def outcomes(path: Path) -> list[str | None]:
    store = SqliteStore(path)
    store.open()
    try:
        return [call.outcome for call in store.calls(CallFilter())]
    finally:
        store.close()


def test_a_program_that_never_stops_its_guard_loses_nothing_when_it_ends(tmp_path: Path) -> None:
    python(GUARDED, f"sqlite:///{tmp_path}/guard.db")
    assert outcomes(tmp_path / "guard.db") == ["success"]
    assert [path.name for path in (tmp_path / "guard.db-guard").iterdir() if path.suffix == ".writer"] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_of_a_process_with_a_guard_records_as_a_writer_of_its_own(tmp_path: Path) -> None:
    program = (
        GUARDED
        + """
child = os.fork()
if not child:
    reply = call()
    anyio.run(guard.stop)
    os._exit(0 if reply.status == 200 and guard.ledger()["in_memory"] == 0 else 1)
assert os.waitpid(child, 0)[1] == 0
call()
"""
    )
    python(program, f"sqlite:///{tmp_path}/guard.db")
    assert outcomes(tmp_path / "guard.db") == ["success"] * 3
    store = SqliteStore(tmp_path / "guard.db")
    store.open()
    assert len({call.writer for call in store.calls(CallFilter())}) == 2
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("lock", ["guard.delivery.in_turn", "guard.delivery._own._lock", "guard._lock"])
def test_a_fork_waits_for_no_thread_of_its_parent(tmp_path: Path, lock: str) -> None:
    program = (
        GUARDED
        + f"""
import signal, threading
held = threading.Event()
def hold():
    with {lock}:
        held.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(20)
    reply = call()
    os._exit(0 if reply.status == 200 and guard.ledger()["accepted"] else 1)
assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""
    )
    python(program, f"sqlite:///{tmp_path}/guard.db")


async def test_what_a_policy_says_after_the_end_is_counted_and_breaks_no_chain(tmp_path: Path) -> None:
    store = ListStore(path=tmp_path / "s")
    guard = Guard(store=store)
    async with guard:
        record = guard.delivery.recorder("call-1")
        record(EventType.REQUEST_RECEIVED)
        record(EventType.CLOSED, outcome="success")
        record(EventType.POLICY_RECORD, event="late")
    assert [row.event_type for row in store.rows("call-1")] == ["request.received", "exchange.closed"]
    assert guard.ledger()["dropped.late"] == 1
    assert guard.ledger()["in_memory"] == 0


def test_half_a_pepper_is_refused_and_a_whole_one_is_made_at_once(tmp_path: Path) -> None:
    first = pepper_of(tmp_path)
    assert len(first) == 32
    assert pepper_of(tmp_path) == first
    assert (tmp_path / "pepper").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["pepper"]
    (tmp_path / "pepper").write_bytes(b"")
    with pytest.raises(ConfigError, match="pepper"):
        pepper_of(tmp_path)


def test_all_who_ask_for_the_pepper_at_once_get_the_same(tmp_path: Path) -> None:
    ready = threading.Barrier(8)

    def ask_for_it(_: int) -> bytes:
        ready.wait(30)
        return pepper_of(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(ask_for_it, range(8)))
    assert [len(each) for each in found] == [32]


WITHOUT_LOCKS = """
import sys
sys.modules["fcntl"] = None  # as where there is none
from pathlib import Path
from luthien_guard.delivery.storage import Storage
from luthien_guard.delivery.writers import Writer, dead_writers
from tests.delivery.stores import ListStore
folder = Path(sys.argv[1])
one, other = Storage(ListStore(), folder), Storage(ListStore(), folder)
one.start(), other.start()
one.stop(), other.stop()
assert not list(folder.iterdir()), list(folder.iterdir())
"""


def test_a_platform_without_file_locks_has_a_store_all_the_same(tmp_path: Path) -> None:
    python(WITHOUT_LOCKS, str(tmp_path))


def test_a_writer_that_is_about_to_lock_its_file_is_not_taken_for_dead(tmp_path: Path) -> None:
    """Workers start together: one looks for the dead while another has made its file and not locked it yet."""
    folder = tmp_path / "state"
    stop = threading.Event()

    def bury() -> None:
        while not stop.is_set():
            for dead in dead_writers(folder):
                dead.release()

    with ThreadPoolExecutor(1) as pool:
        buried = pool.submit(bury)
        try:
            for _ in range(500):
                writer = Writer(folder)
                writer.acquire()
                assert writer.path.exists()
                writer.release()
        finally:
            stop.set()
        buried.result(30)


async def test_who_waits_for_a_record_after_the_stop_is_told_at_once(tmp_path: Path) -> None:
    guard = Guard(store=ListStore(path=tmp_path / "s"), durability="strict")
    await guard.start()
    await guard.stop()
    with pytest.raises(SinkError, match="stopped"):
        await guard.delivery.durable()


async def test_two_guards_of_one_process_share_a_store_and_bury_nobody(tmp_path: Path) -> None:
    guards = [Guard(store=f"sqlite:///{tmp_path}/guard.db", durability="strict") for _ in range(2)]
    async with guards[0]:
        open_call = guards[0].delivery.recorder("call-1")
        open_call(EventType.REQUEST_RECEIVED)
        await guards[0].delivery.durable()
        async with guards[1], anyio.create_task_group() as tasks:
            for guard in guards * 10:
                tasks.start_soon(ask, GuardMiddleware(ANSWER, guard=guard), "/v1/chat/completions", REQUEST)
        open_call(EventType.CLOSED, outcome="success")
    assert outcomes(tmp_path / "guard.db") == ["success"] * 21
    assert not [path for path in (tmp_path / "guard.db-guard").iterdir() if path.suffix == ".writer"]


def test_a_guard_may_live_until_the_interpreter_ends() -> None:
    """Longer than the modules, whose names are gone by then."""
    outlives = "import builtins, luthien_guard; builtins.kept = luthien_guard.Guard()"
    done = subprocess.run(
        [sys.executable, "-c", outlives], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
