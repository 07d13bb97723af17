"""Keys in a database that all machines ask."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.gateway.key import Key, new_key
from luthien_guard.gateway.pepper import Pepper
from luthien_guard.gateway.shared.reach import Away, Busy, Reach
from luthien_guard.gateway.shared.service import KeyTable
from luthien_guard.gateway.shared.together import Together

__all__ = ["SharedKeys"]

T = TypeVar("T")

# Seconds for which an answer counts: a revoked key is refused within a second, everywhere.
_FRESH: Final = 0.5
_MARK: Final = "pepper"  # of a key's settings
_MANY: Final = 10_000  # keys that are remembered
_STRANGERS: Final = 1_000  # keys that nobody knows, in one question


class SharedKeys:
    """Implements `Keys`. What was found is asked for again after half a second; while the database is away, a key that
    was found counts for `grace` seconds more."""

    def __init__(
        self,
        table: KeyTable,
        pepper: Pepper,
        *,
        reach: Reach | None = None,
        grace: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = table.place
        self.reach = reach or Reach(table.place)
        self._table = table
        self._pepper = pepper
        self._grace = grace
        self._clock = clock
        # A flood of made-up keys is one question after another, and not one for each of them.
        self._asked: Together[str, Key | None] = Together(self._found)
        self._known: OrderedDict[str, tuple[Key, float]] = OrderedDict()  # id -> key, when it was found

    async def find(self, id: str) -> Key | None:
        """Raises SinkError while nobody can say, and ConfigError for a key that another pepper made: this machine could
        not tell it from a wrong one."""
        known, now = self._known.get(id), self._clock()
        if known is not None and now - known[1] < _FRESH:
            return known[0]
        if known is None and self._asked.waiting >= _STRANGERS:
            raise Busy(f"{self.place}: too many ask for keys that are not known")
        try:
            key = await self._asked.ask(id)
        except Away:
            if known is not None and now - known[1] < self._grace:
                return known[0]
            raise
        self._remember(id, key, now)
        return key

    async def _found(self, ids: Sequence[str]) -> list[Key | None]:
        unique = set(ids)
        found = {key.id: key for key in await self.reach.ask(lambda: self._table.find(unique))}
        return [found.get(id) for id in ids]

    def _remember(self, id: str, key: Key | None, now: float) -> None:
        self._known.pop(id, None)
        if key is None:
            return
        if key.settings.get(_MARK, self._pepper.mark) != self._pepper.mark:
            raise ConfigError(f"{self.place}: key {id} has another pepper: set one LUTHIEN_PEPPER everywhere")
        self._known[id] = key, now
        if len(self._known) > _MANY:
            self._known.popitem(last=False)

    def mac(self, text: str) -> bytes:
        return self._pepper.mac(text)

    def create(
        self,
        name: str = "",
        *,
        scopes: Iterable[str] = ("*",),
        seconds: float | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> tuple[Key, str]:
        marked = {**(settings or {}), _MARK: self._pepper.mark}
        key, text = new_key(self.mac, name, scopes=scopes, seconds=seconds, settings=marked)
        _told(lambda: self._table.add(key))
        return key, text

    def revoke(self, id: str) -> bool:
        return _told(lambda: self._table.revoke(id, time.time()))

    def all(self) -> list[Key]:
        return list(_told(self._table.all))

    def close(self) -> None:
        self._table.close()


def _told(work: Callable[[], T]) -> T:
    """For the command line, whose errors are those of a configuration."""
    try:
        return work()
    except SinkError as error:
        raise ConfigError(str(error)) from None
