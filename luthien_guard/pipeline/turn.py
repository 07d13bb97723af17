"""Who may decide and write now. A lock whose free case is one attribute: it is taken for every chunk."""

from __future__ import annotations

import anyio

__all__ = ["Turn"]


class Turn:
    """First come, first served. `taken` may be read and set by its owner's fast path; `give` always ends a turn."""

    __slots__ = ("_waiting", "taken")

    def __init__(self) -> None:
        self.taken = False
        self._waiting: list[anyio.Event] = []  # a few at most

    async def take(self) -> None:
        if not self.taken:
            self.taken = True
            return
        called = anyio.Event()
        self._waiting.append(called)
        try:
            await called.wait()
        except BaseException:
            if called.is_set():  # cancelled in the moment in which the turn was handed over
                self.give()
            else:
                self._waiting.remove(called)
            raise

    def give(self) -> None:
        """Hand the turn to whoever has waited longest; nobody can come between."""
        if self._waiting:
            self._waiting.pop(0).set()
        else:
            self.taken = False
