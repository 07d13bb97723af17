"""`check_sink`: does a store keep what the delivery and the query side rely on? For stores of your own too.

def test_my_store(tmp_path):
    check_sink(lambda: MyStore(tmp_path / "db"))
"""

from __future__ import annotations

from collections.abc import Callable

from luthien_guard.store import Store
from luthien_guard.testing.sinks.filtering import filters
from luthien_guard.testing.sinks.following import (
    is_followed_over_a_prune,
    tails,
    tails_large_rows_a_few_at_a_time,
)
from luthien_guard.testing.sinks.keeping import (
    is_seen_by_others,
    keeps_one_row_a_key,
    keeps_rows,
    refuses_when_closed,
    reopened,
    starts_empty,
    takes_many,
)
from luthien_guard.testing.sinks.lines import (
    keeps_what_the_end_said,
    knows_the_unfinished,
    projects_calls,
    survives_what_clients_send,
)
from luthien_guard.testing.sinks.pruning import prunes, prunes_events, prunes_what_was_seen
from luthien_guard.testing.sinks.rows import exchange_rows

__all__ = ["check_sink", "exchange_rows"]


def check_sink(make: Callable[[], Store], *, keeps: bool = True) -> None:
    """Run every check, each on what the ones before left. `make` gives a store, closed, on the same data every time
    (`keeps=False`: data that ends with the object). Raises AssertionError that says which promise is broken."""
    store = make()
    store.open()
    try:
        starts_empty(store)
        keeps_rows(store)
        keeps_one_row_a_key(store)
        projects_calls(store)
        filters(store)
        tails(store)
        knows_the_unfinished(store)
        if keeps:
            store = reopened(store, make)
        takes_many(store)
        if keeps:
            is_seen_by_others(store, make)
        prunes(store, shared=keeps)
        survives_what_clients_send(store)
        keeps_what_the_end_said(store)
        prunes_events(store)
        if keeps:
            is_followed_over_a_prune(store, make)
            tails_large_rows_a_few_at_a_time(store)
        prunes_what_was_seen(store)
    finally:
        store.close()
    refuses_when_closed(store)
