"""One server of each kind for all of these tests."""

from __future__ import annotations

from tests.sinks.servers import database, postgres, primary, redis

__all__ = ["database", "postgres", "primary", "redis"]
