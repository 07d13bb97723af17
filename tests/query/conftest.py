"""The servers of the store tests."""

from __future__ import annotations

from tests.sinks.servers import database, postgres

__all__ = ["database", "postgres"]
