"""`postgresql://user:password@host:port/database`: a store for many machines. Driver: asyncpg (the extra `postgresql`)."""

from __future__ import annotations

from luthien_guard.sinks.postgresql.connection import checked
from luthien_guard.sinks.postgresql.store import PostgresStore

__all__ = ["PostgresStore", "from_url"]


def from_url(url: str) -> PostgresStore:
    """What asyncpg takes as a DSN, parameters (`?sslmode=verify-full`) too. Raises ConfigError."""
    import asyncpg  # type: ignore[import-untyped, unused-ignore]  # noqa: F401 - told now, and not at the first record, when it is missing

    return PostgresStore(checked(url))
