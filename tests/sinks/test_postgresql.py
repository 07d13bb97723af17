"""The store on a real PostgreSQL keeps what `check_sink` asks of any; and what only a server can get wrong."""

from __future__ import annotations

from luthien_guard.sinks.postgresql import PostgresStore
from luthien_guard.testing.sinks import check_sink
from tests.sinks.servers import database, postgres

__all__ = ["database", "postgres"]


def test_it_keeps_the_promises(database: str) -> None:
    check_sink(lambda: PostgresStore(database))
