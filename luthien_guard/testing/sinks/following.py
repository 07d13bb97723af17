"""Who follows a store sees every row once, in order, also over a prune."""

from __future__ import annotations

from collections.abc import Callable

from luthien_guard.store import Row, Store
from luthien_guard.testing.sinks.promises import same
from luthien_guard.testing.sinks.rows import exchange_rows

__all__ = ["is_followed_over_a_prune", "tails", "tails_large_rows_a_few_at_a_time"]


def tails(store: Store) -> None:
    position, rows = store.tail()
    same("a tail begins with nothing", rows, [])
    fresh = [*exchange_rows(9, "a"), *exchange_rows(10, "b")]
    store.write(fresh)
    first, some = store.tail(position, limit=3)
    _, rest = store.tail(first, limit=500)
    same("a tail gives what was stored since, in order", [*some, *rest], fresh)
    same("a tail gives nothing twice", store.tail(store.tail()[0])[1], [])


def tails_large_rows_a_few_at_a_time(store: Store) -> None:
    """They would fill the memory of who reads them."""
    position, _ = store.tail()
    large = exchange_rows(60, *["x" * 1_000_000] * 40)
    store.write(large)
    seen: list[Row] = []
    while found := store.tail(position)[1]:
        same("not all at once", len(found) < len(large), True)
        position, _ = store.tail(position)
        seen += found
    same("a tail gives large rows, too", seen == large, True)


def is_followed_over_a_prune(store: Store, make: Callable[[], Store]) -> None:
    """Who follows sees nothing twice, and nothing too little."""
    old, young, late = (
        exchange_rows(9_000, "a", "b"),
        exchange_rows(9_001, "young"),
        exchange_rows(9_002, "late"),
    )
    reader = make()
    reader.open()
    try:
        position, _ = reader.tail()
        store.write([*old, *young])
        position, seen = reader.tail(position, limit=len(old) + 1)
        assert store.prune(before=9_000_500.0) > 0, "pruning by age takes something"
        store.write(late)
        while rows := reader.tail(position)[1]:
            position, _ = reader.tail(position)
            seen += rows
        same("a tail goes on behind a prune", seen, [*old, *young, *late])
    finally:
        reader.close()
