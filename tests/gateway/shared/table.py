"""A database of keys in this process."""

from __future__ import annotations

from collections.abc import Collection

from anyio.lowlevel import checkpoint

from luthien_guard.errors import SinkError
from luthien_guard.gateway.key import Key

__all__ = ["Table"]


class Table:
    """Implements `KeyTable`, of which tests change `keys` as they like. Answers after some rounds of the loop, and not
    while it is not `there`; remembers for how many keys it was `asked`."""

    place = "there"

    def __init__(self, *keys: Key) -> None:
        self.keys = {each.id: each for each in keys}
        self.there = True
        self.asked: list[int] = []

    async def find(self, ids: Collection[str]) -> list[Key]:
        self.asked.append(len(ids))
        for _ in range(10):
            await checkpoint()
        if not self.there:
            raise SinkError("there: no")
        return [self.keys[id] for id in ids if id in self.keys]

    def add(self, key: Key) -> None:
        self.keys[key.id] = key

    def revoke(self, id: str, at: float) -> bool:
        raise NotImplementedError

    def all(self) -> list[Key]:
        raise NotImplementedError

    def close(self) -> None:
        pass
