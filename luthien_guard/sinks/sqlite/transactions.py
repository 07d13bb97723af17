"""Everything or nothing."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator

__all__ = ["transaction"]


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None]:
    """One that may write, from its beginning on. Raises sqlite3.Error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # some errors have rolled back already
            db.execute("ROLLBACK")
        raise
