"""Time that can be replaced: a monotonic clock which also says how to stop waiting at a moment.

One scope per wait is all that deadlines and keep-alives need, so a virtual clock has two methods to provide.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import anyio

__all__ = ["Clock", "MonotonicClock", "OutOfTime", "clock_from"]


class OutOfTime(Exception):
    """The moment came first."""


@runtime_checkable
class Clock(Protocol):
    """Monotonic seconds, and scopes that end at one of them."""

    def __call__(self) -> float:
        """Now, in seconds; only differences mean anything."""
        ...

    def until(self, when: float, scope: anyio.CancelScope | None = None) -> anyio.CancelScope:
        """A new scope that is cancelled when the clock reaches `when`; `inf` never is. `scope`: one that is there
        already, to be cancelled then and no longer when it would have been."""
        ...


class MonotonicClock:
    """Real seconds, read from any monotonic source: event loops count from different moments, so a scope's deadline
    is always reckoned from now."""

    def __init__(self, source: Callable[[], float] = time.monotonic) -> None:
        self.source = source  # the same seconds without a Python call, for what is asked per chunk

    def __call__(self) -> float:
        return self.source()

    def until(self, when: float, scope: anyio.CancelScope | None = None) -> anyio.CancelScope:
        scope = anyio.CancelScope() if scope is None else scope
        scope.deadline = anyio.current_time() + (when - self.source())
        return scope


def clock_from(source: Callable[[], float]) -> Clock:
    """`source` itself if it can make scopes; any other callable is taken for real seconds."""
    if isinstance(source, Clock):
        return source
    return MonotonicClock(source)
