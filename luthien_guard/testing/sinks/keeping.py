"""Rows go in, and the same rows come out: once a key, after a restart, and through another object."""

from __future__ import annotations

from collections.abc import Callable

from luthien_guard.errors import SinkError
from luthien_guard.records import EventType
from luthien_guard.store import CallFilter, Store, chained
from luthien_guard.testing.sinks.promises import same
from luthien_guard.testing.sinks.rows import exchange_rows

__all__ = [
    "is_seen_by_others",
    "keeps_one_row_a_key",
    "keeps_rows",
    "refuses_when_closed",
    "reopened",
    "starts_empty",
    "takes_many",
]

_AWKWARD = ("\0 NUL", "\udc80 lone", "🙂 é \u2028", "%_\\ ' \" --", "x" * 1_000_000)


def starts_empty(store: Store) -> None:
    same("a new store is empty", store.calls(CallFilter()), [])
    for id in ("none", "\0", "\udc80"):
        same("there is no call that nobody wrote", store.call(id), None)
        same("there are no rows that nobody wrote", store.rows(id), [])
    same("writing nothing is allowed", store.write([]).stored, 0)
    same("retention took nothing yet", store.pruned(), None)


def keeps_rows(store: Store) -> None:
    for number, text in enumerate(_AWKWARD, 1):
        rows = exchange_rows(number, text)
        same("new rows are stored", store.write(rows[:2]).stored, 2)
        same("new rows are stored", store.write(rows[2:], durable=True).stored, 2)
        same("rows come back as they were", store.rows(rows[0].call_id), rows)
        same("rows after a number", store.rows(rows[0].call_id, after=1), rows[2:])


def keeps_one_row_a_key(store: Store) -> None:
    rows = exchange_rows(1, _AWKWARD[0])
    written = store.write(rows)
    same("rows that are there are known", (written.stored, written.known, written.conflicts), (0, 4, ()))
    other = chained(rows[1].call_id, 1, 9.0, rows[1].event_type, None, "{}", rows[0].hash)
    written = store.write([other, *exchange_rows(6)])
    same("a key with other content is a conflict", (written.stored, written.conflicts), (3, (other,)))
    same("a conflict changes nothing", store.rows(rows[0].call_id), rows)
    forged = chained(
        rows[0].call_id, 3, 9.0, EventType.CLOSED.value, None, '{"outcome":"forged"}', rows[2].hash
    )
    same("a forged end is a conflict", store.write([forged]).conflicts, (forged,))
    call = store.call(rows[0].call_id)
    same("a conflict does not show in the line of the call", call and call.outcome, "blocked")


def reopened(store: Store, make: Callable[[], Store]) -> Store:
    before = (store.calls(CallFilter()), store.rows(exchange_rows(2)[0].call_id))
    store.close()
    again = make()
    again.open()
    same(
        "a store keeps what it had",
        (again.calls(CallFilter()), again.rows(exchange_rows(2)[0].call_id)),
        before,
    )
    same("rows are known after a restart", again.write(exchange_rows(10, "b")).known, 4)
    return again


def takes_many(store: Store) -> None:
    rows = [row for number in range(100, 1100) for row in exchange_rows(number, "many")]
    before = store.stats()["events"]
    same("a big batch", store.write(rows).stored, len(rows))
    same("the number of events", store.stats()["events"], before + len(rows))


def is_seen_by_others(store: Store, make: Callable[[], Store]) -> None:
    """Questions come through a store of their own, while another one writes."""
    reader = make()
    reader.open()
    try:
        position, _ = reader.tail()
        rows = exchange_rows(50, "seen")
        store.write(rows)
        same("another store sees what was written", reader.rows(rows[0].call_id), rows)
        same("and its line", reader.call(rows[0].call_id), store.call(rows[0].call_id))
        same("and in its tail", reader.tail(position)[1], rows)
    finally:
        reader.close()
    same("another store that closes closes nothing of this one", store.rows(rows[0].call_id), rows)


def refuses_when_closed(store: Store) -> None:
    try:
        store.write(exchange_rows(2000))
    except SinkError:
        return
    raise AssertionError("a closed store takes rows without an error: they are lost")
