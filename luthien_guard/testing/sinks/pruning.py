"""Retention takes what is old or too much, and nothing else; what comes late of it stays away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthien_guard.store import CallFilter, Store, chained
from luthien_guard.testing.sinks.promises import same
from luthien_guard.testing.sinks.rows import exchange_rows

__all__ = ["prunes", "prunes_events", "prunes_what_was_seen"]


def prunes(store: Store, shared: bool) -> None:
    stats = store.stats()
    same("the number of calls", stats["calls"], 1011 if shared else 1010)
    same("the oldest call", stats["oldest"], 1000.0)
    same("pruning by age", store.prune(before=500_000.0), stats["calls"] - 600)
    same("what is older is gone", store.calls(CallFilter(until=500_000.0)), [])
    same("and its rows", store.rows(exchange_rows(1)[0].call_id), [])
    same("what is younger stays", len(store.calls(CallFilter(limit=5000))), 600)
    late = store.write([*exchange_rows(100, "many")[1:], *exchange_rows(900, "many")])
    same("what comes late of a call that was pruned is not stored, and counted", late.pruned, 3)
    same("and what is there is known", (late.stored, late.known), (0, 4))
    same("half a call does not come back", store.call(exchange_rows(100)[0].call_id), None)
    _takes_calls_of_a_slow_clock(store)
    smaller = store.stats()["bytes"] // 2
    assert store.prune(max_bytes=smaller) > 0, "pruning by size takes something"
    kept: Sequence[Any] = store.calls(CallFilter(limit=5000))
    assert kept, "and leaves something"
    same("the newest stays", kept[0].call_id, exchange_rows(1099)[0].call_id)


def _takes_calls_of_a_slow_clock(store: Store) -> None:
    """Clocks are set back: what begins then has an older id than what retention took last."""
    youngest = exchange_rows(499)[0].call_id
    same("up to where retention went", store.pruned(), youngest)
    first, *rest = exchange_rows(11, "slow")
    same("a call that begins is stored, whatever its id", store.write([first]).stored, 1)
    same("and what follows", store.write(rest).stored, len(rest))
    same("all of it", store.rows(first.call_id), [first, *rest])
    same("and goes with the next pruning", store.prune(before=500_000.0), 1)
    same("which remembers as much as before", store.pruned(), youngest)
    alone = exchange_rows(12, "cut")[-1]
    end = chained(alone.call_id, 0, alone.at, alone.event_type, None, '{"outcome":"interrupted"}', "")
    same("an end alone is what came late", store.write([end]).pruned, 1)


def prunes_events(store: Store) -> None:
    events = store.stats()["events"]
    rows = exchange_rows(8_000, "young")
    store.write(rows)
    same("there is nothing so old", store.prune(before=0.0, events_only=True), 0)
    assert store.prune(before=8_000_000.0, events_only=True) > 0, "pruning events by age takes something"
    same("and leaves what is younger", store.rows(rows[0].call_id), rows)
    same("their number", store.stats()["events"], len(rows))
    assert events, "there were events to prune"
    same("nothing is left to prune", store.prune(before=8_000_000.0, events_only=True), 0)
    _hears_the_end_of_pruned_calls(store)
    _dates_calls_without_a_beginning(store)


def _hears_the_end_of_pruned_calls(store: Store) -> None:
    """A call that went on while its events were pruned; a store may keep no line without them."""
    *open, end = exchange_rows(8_001, "long")
    store.write([*open, *exchange_rows(8_002)])
    assert store.prune(before=8_002_000.0, events_only=True) > 0, "pruning events of a call that is under way"
    same("its end comes late", store.write([end]).pruned, 1)
    same("and is not stored", store.rows(end.call_id), [])
    line = store.call(end.call_id)
    same(
        "its line, where it is kept, says how it ended",
        line is None or line.outcome,
        line is None or "blocked",
    )


def _dates_calls_without_a_beginning(store: Store) -> None:
    """It may lie in a quarantine. The id says when the call was."""
    rest = exchange_rows(8_003, "orphan")[1:]
    same("a young call is stored without its beginning, too", store.write(rest).stored, len(rest))
    found = store.calls(CallFilter(until=2e9, since=1.0, session_id=None, limit=1))
    same("and found by its time", [call.call_id for call in found], [rest[0].call_id])
    store.prune(before=2e9)
    same("and pruned with the others", store.rows(rest[0].call_id), [])


def prunes_what_was_seen(store: Store) -> None:
    """Who reads up to a position and prunes loses nothing that came meanwhile."""
    whole, growing, late = exchange_rows(9_100), exchange_rows(9_101), exchange_rows(9_102)
    store.write([*whole, *growing[:-1], *exchange_rows(9_200)])
    position, _ = store.tail()
    store.write([*late, growing[-1]])
    for events_only in (False, True):
        store.prune(before=9_150_000.0, events_only=events_only, seen=position)
        same("what was seen whole is pruned", store.rows(whole[0].call_id), [])
        same("a call that came meanwhile is not", store.rows(late[0].call_id), late)
        same("nor one that went on", store.rows(growing[0].call_id), growing)
    store.prune(max_bytes=0, seen=position)
    same("nor for its size", (store.rows(late[0].call_id), store.rows(growing[0].call_id)), (late, growing))
