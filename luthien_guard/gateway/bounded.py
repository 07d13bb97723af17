"""What strangers can cause without end is told only so often."""

from __future__ import annotations

from typing import Final

__all__ = ["Bounded"]

_AT_ONCE: Final = 60.0
_EVERY: Final = 10.0  # seconds: one more


class Bounded:
    """Of one kind: 60 at once, and then one every ten seconds. A bucket that refills; `now` in seconds."""

    __slots__ = ("_at", "_room", "passed_over")

    def __init__(self, now: float) -> None:
        self._room = _AT_ONCE
        self._at = now
        self.passed_over = 0  # since one was told

    def has_room(self, now: float) -> bool:
        self._room = min(_AT_ONCE, self._room + (now - self._at) / _EVERY)
        self._at = now
        return self._room >= 1

    def taken(self) -> str:
        """What is told beside this one."""
        self._room -= 1
        count, self.passed_over = self.passed_over, 0
        return f" ({count} more of this kind were refused before it and not recorded)" if count else ""
