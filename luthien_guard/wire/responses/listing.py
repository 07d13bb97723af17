"""Output indices as they leave: in the order in which the items are announced.

There are clients that append announced items to a list, and then take an `output_index` for a place in that list. Items
behind those that went without a trace move up; items that nobody announced get what is free.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

from luthien_guard.wire.responses.items import Places

__all__ = ["ANNOUNCES", "Listing"]

ANNOUNCES = "response.output_item.added"


class Listing:
    """Where each item leaves, by the index that it came with. `place`, write the event, then `follow` it."""

    __slots__ = ("_count", "_lost", "_places", "_used")

    def __init__(self) -> None:
        self._places: dict[int, int] = {}  # output index as it came: as it leaves
        self._used = Places()  # indices that have left
        self._lost: list[int] = []  # indices of removed items where nothing stands instead, in order
        self._count: int | None = None  # items in the list of such clients; None: they have none yet

    def place(self, came: int, *, announces: bool) -> int:
        """The index that an event leaves with."""
        known = self._places.get(came)
        if announces and self._count is not None:
            # spoken of before it is announced, and then not where the list ends: it goes on there
            there = known is not None and known <= self._count
            return known if known is not None and there else self._used.take(self._count)
        return self._used.take(came - bisect_left(self._lost, came)) if known is None else known

    def missing(self, place: int) -> range:
        """The places before this one that have been used, and not been announced."""
        return range(place if self._count is None else self._count, place)

    def keep(self, came: int, place: int) -> None:
        self._places[came] = place

    def lose(self, came: int) -> None:
        insort(self._lost, came)

    def end(self, free: int) -> int:
        """A place for one more item; `free` is what no item has had."""
        if self._count is None:
            return max([free, *(each + 1 for each in self._places.values())])
        return self._used.take(self._count)

    def follow(self, kind: str, data: dict[str, Any]) -> None:
        """An event has left with this data."""
        if kind == ANNOUNCES and self._count is not None:
            self._append()
        elif kind == "response.created" and self._count is None:
            response = data.get("response")
            output = response.get("output") if isinstance(response, dict) else None
            self._count = 0
            for at in range(len(output) if isinstance(output, list) else 0):
                self._places.setdefault(at, at)
                self._append()

    def _append(self) -> None:
        assert self._count is not None
        if self._count not in self._used:  # an item that is announced once more, or without an index
            self._used.take(self._count)
        self._count += 1
