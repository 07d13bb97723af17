"""Rows of any number go in with few statements, each once."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from luthien_guard.sinks.sqlite.batches import Insert, in_batches

INSERT = Insert("t", ("key", "value"), "ON CONFLICT DO NOTHING")


@given(st.lists(st.integers(0, 300), max_size=700))
def test_every_row_goes_in_once_and_in_order(keys: list[int]) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE t (position INTEGER PRIMARY KEY, key INTEGER UNIQUE, value TEXT)")
    stored = in_batches(db, INSERT, [(key, str(at)) for at, key in enumerate(keys)])
    found = db.execute("SELECT key, value FROM t ORDER BY position").fetchall()
    first = {key: str(at) for at, key in reversed(list(enumerate(keys)))}
    assert found == [(key, first[key]) for key in dict.fromkeys(keys)]
    assert stored == len(found)
    db.close()
