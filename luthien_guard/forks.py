"""What the child of a fork does anew: of its parent's threads only one is there. Who held a lock does not give it back, and
who wrote to a store does not write any more."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["Lock", "told_of_forks"]


T = TypeVar("T")

# By their objects, and no `WeakMethod`s: those need the module `weakref` when they die, and an object may outlive it when
# the interpreter ends.
_told: Final[WeakKeyDictionary[Any, Callable[[Any], None]]] = WeakKeyDictionary()


def told_of_forks(each: T, renew: Callable[[T], None]) -> None:
    """Call `renew` with it in every child of a fork, for as long as it lives."""
    _told[each] = renew


class Lock:
    """One that is free in the child of a fork."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        told_of_forks(self, Lock._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _forked() -> None:
    for each, renew in list(_told.items()):
        renew(each)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
