"""What a shared service can do for the workers of a gateway. Every failure of one is a SinkError."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from luthien_guard.gateway.key import Key
from luthien_guard.gateway.shared.pace import Pace

__all__ = ["KeyTable", "Shared"]


class Shared(Protocol):
    """Asked in any event loop, by any number of tasks; it opens itself with the first question. Its clock decides."""

    @property
    def place(self) -> str:
        """For messages: no user, no password."""
        ...

    @property
    def at_once(self) -> int:
        """How many questions it answers at the same time: who asks more has them wait."""
        ...

    async def take(self, bucket: str, pace: Pace) -> float:
        """Takes one request from the bucket, atomically: 0.0, or how many seconds until there is one."""
        ...

    async def announce(self, fleet: str, worker: str, version: str, seconds: float) -> Mapping[str, str]:
        """Says for so long which version a worker runs; gives what all workers of the fleet say now. 0 seconds takes
        it back."""
        ...

    def close(self) -> None:
        """Blocks for a moment; may be called twice."""
        ...


@runtime_checkable
class KeyTable(Protocol):
    """Keys in a database. All but `find` wait in the calling thread: they are for the command line."""

    @property
    def place(self) -> str: ...

    async def find(self, ids: Collection[str]) -> Sequence[Key]:
        """Those that are there, in any order."""
        ...

    def add(self, key: Key) -> None: ...

    def revoke(self, id: str, at: float) -> bool:
        """True when there was such a key and it was not revoked before. `at`: Unix seconds."""
        ...

    def all(self) -> Sequence[Key]:
        """Oldest first."""
        ...

    def close(self) -> None: ...
