"""What a query finds, also in a file that somebody broke."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from luthien_guard.sinks.sqlite.values import readable
from luthien_guard.store import EVENT_COLUMNS, paged

__all__ = ["fetched", "page"]

_PAYLOAD: Final = itemgetter(1 + EVENT_COLUMNS.index("payload"))  # of a row behind its position


def _all(cursor: sqlite3.Cursor) -> list[Any]:
    return cursor.fetchall()


def page(cursor: sqlite3.Cursor) -> list[Any]:
    with contextlib.closing(cursor):
        return list(paged(cursor, _PAYLOAD))


def fetched(
    db: sqlite3.Connection,
    query: str,
    values: Sequence[Any],
    read: Callable[[sqlite3.Cursor], list[Any]] = _all,
) -> list[Any]:
    try:
        return read(db.execute(query, values))
    except sqlite3.OperationalError as error:
        if "decode" not in str(error):
            raise
    db.text_factory = readable  # slow: only for who has to look at what somebody broke
    try:
        return read(db.execute(query, values))
    finally:
        db.text_factory = str
