"""Many rows with one statement: the driver lets other threads run at each, and taking turns with a busy one costs more
than the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

__all__ = ["Insert", "in_batches"]

#: Rows a statement; the next smaller ones are its halves, so that a handful of statements serve all.
_MOST = 128


class Insert:
    """INSERT of rows of `columns` into `table`; `on_conflict` is the end of the statement."""

    def __init__(self, table: str, columns: Sequence[str], on_conflict: str) -> None:
        self._begin = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
        self._row = f"({', '.join('?' * len(columns))})"
        self._end = f" {on_conflict}"

    def sql(self, rows: int) -> str:
        return self._begin + ", ".join([self._row] * rows) + self._end


def in_batches(db: sqlite3.Connection, insert: Insert, rows: Sequence[Sequence[Any]]) -> int:
    """How many went in."""
    return sum(
        db.execute(insert.sql(len(batch)), tuple(chain.from_iterable(batch))).rowcount
        for batch in _batches(rows)
    )


def _batches(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    at, size = 0, _MOST
    while at < len(rows):
        while size > len(rows) - at:
            size //= 2
        yield rows[at : at + size]
        at += size
