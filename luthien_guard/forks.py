"""What the child of a fork does anew: of its parent's threads only one is there. Who held a lock does not give it back, and
who wrote to a store does not write any more."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final
from weakref import WeakMethod

__all__ = ["Lock", "told_of_forks"]


_told: Final[set[WeakMethod[Callable[[], None]]]] = set()


def told_of_forks(method: Callable[[], None]) -> None:
    """Call it in every child of a fork, for as long as its object lives."""
    _told.add(WeakMethod(method, _told.discard))


class Lock:
    """One that is free in the child of a fork."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        told_of_forks(self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _forked() -> None:
    for each in list(_told):
        if (method := each()) is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
