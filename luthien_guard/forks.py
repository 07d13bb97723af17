"""Locks in the child of a fork: the thread that held one at that moment is not there to give it back."""

from __future__ import annotations

import os
import threading
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["HasLocks", "Lock", "renewed_in_forks"]


class HasLocks(Protocol):
    def renew_locks(self) -> None: ...


_OWNERS: Final[WeakSet[HasLocks]] = WeakSet()


def renewed_in_forks(owner: HasLocks) -> None:
    """Call its `renew_locks` in every child of a fork."""
    _OWNERS.add(owner)


class Lock:
    """One that is free in the child of a fork."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renewed_in_forks(self)

    def renew_locks(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _forked() -> None:
    for owner in list(_OWNERS):
        owner.renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
