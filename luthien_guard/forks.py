"""What the child of a fork does anew: of its parent's threads only one is there. Who held a lock does not give it back, and
who wrote to a store does not write any more."""

from __future__ import annotations

import os
import threading
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["Lock", "told_of_forks"]


class _Told(Protocol):
    def after_fork(self) -> None: ...


_OWNERS: Final[WeakSet[_Told]] = WeakSet()


def told_of_forks(owner: _Told) -> None:
    """Call its `after_fork` in every child of a fork."""
    _OWNERS.add(owner)


class Lock:
    """One that is free in the child of a fork."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        told_of_forks(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _forked() -> None:
    for owner in list(_OWNERS):
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
