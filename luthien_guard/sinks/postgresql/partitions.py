"""A partition of `conversation_events` for every day (UTC), by the time that stands in the ids."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from luthien_guard.sinks.postgresql.driver import Database

__all__ = ["LOCK", "Partition", "created", "day_of", "found", "wanted"]

#: Held by whoever writes rows, makes partitions or prunes. It gives rows positions in the order of their commits, so that a
#: tail misses none.
LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('luthien_guard'))"

_OTHER: Final = "conversation_events_other"
_SECONDS: Final = 86400
_FIRST: Final = datetime(2020, 1, 1, tzinfo=UTC).timestamp()  # before it no clock was right


@dataclass(frozen=True, slots=True)
class Partition:
    """`low` and `high` bound its ids; None for the one that takes what no day takes."""

    name: str
    low: str | None = None
    high: str | None = None


def day_of(call_id: str) -> int | None:
    """Days since 1970 that a UUIDv7 says. None for other ids, and where the clock must have been wrong."""
    try:
        seconds = int(call_id[:8] + call_id[9:13], 16) / 1000
    except ValueError:
        return None
    if (
        call_id[8:9] != "-"
        or call_id != call_id.lower()
        or not _FIRST <= seconds < time.time() + 2 * _SECONDS
    ):
        return None
    return int(seconds // _SECONDS)


def wanted(call_ids: Iterable[str]) -> set[int]:
    """The days of these calls, today and tomorrow."""
    today = int(time.time() // _SECONDS)
    days = {day for call_id in call_ids if (day := day_of(call_id)) is not None}
    return days | {today, today + 1}


def _partition(day: int) -> Partition:
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return Partition(f"conversation_events_{date:%Y%m%d}", _bound(day), _bound(day + 1))


def _bound(day: int) -> str:
    digits = f"{day * _SECONDS * 1000:012x}"
    return f"{digits[:8]}-{digits[8:]}"


async def created(db: Database, days: Iterable[int]) -> None:
    """Make the partitions that are missing. In a transaction."""
    # not for long: whoever reads stands in the way, and others wait behind us
    await db.execute("SET LOCAL lock_timeout = 2000")
    await db.execute(LOCK)
    there = {each.name for each in await found(db)}
    for day in sorted(days):
        partition = _partition(day)
        if partition.name not in there:
            await _create(db, partition)


async def _create(db: Database, new: Partition) -> None:
    """Beside the table first, with the rows of that day that came before the partition: attaching it takes a weaker lock
    than making it in place."""
    columns = "position, call_id, seq, at, event_type, policy, payload, prev_hash, hash"
    day = f"call_id >= '{new.low}' AND call_id < '{new.high}'"
    await db.execute(
        f"CREATE TABLE {new.name} (LIKE conversation_events INCLUDING ALL);"
        f"WITH moved AS (DELETE FROM {_OTHER} WHERE {day} RETURNING {columns}) "
        f"INSERT INTO {new.name} ({columns}) SELECT {columns} FROM moved;"
        f"ALTER TABLE conversation_events ATTACH PARTITION {new.name} FOR VALUES FROM ('{new.low}') TO ('{new.high}')"
    )


async def found(db: Database) -> list[Partition]:
    """All that there are, the oldest first, the one without a day last."""
    query = (
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'conversation_events'::regclass ORDER BY c.relname"
    )
    names: list[Any] = [each[0] for each in await db.fetch(query)]
    return [_named(name) for name in names]


def _named(name: str) -> Partition:
    if name == _OTHER:
        return Partition(name)
    date = datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC)
    return _partition(int(date.timestamp() // _SECONDS))
