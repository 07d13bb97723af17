"""`memory://`: a hub for one process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from luthien_guard.errors import ConfigError
from luthien_guard.pubsub import Notice
from luthien_guard.sinks.pubsub.mailbox import Mailbox, gap

__all__ = ["MemoryPubSub", "from_url"]


def from_url(url: str) -> MemoryPubSub:
    """Every hub that this makes is one of its own. Raises ConfigError."""
    if url != "memory://":
        raise ConfigError(f"{url!r}: memory:// has no path")
    return MemoryPubSub()


class MemoryPubSub:
    """Implements `PubSub`. Knows the last `kept` notices; `size` of them may wait for a subscriber."""

    def __init__(self, *, kept: int = 1000, size: int = 1000) -> None:
        self._size = size
        self._last = 0
        self._kept: deque[Notice] = deque(maxlen=kept)
        self._mailboxes: set[Mailbox] = set()
        self._lock = threading.Lock()

    def open(self) -> None:
        pass

    def publish(self, notices: Sequence[Notice]) -> None:
        with self._lock:
            numbered = [
                Notice(str(number), each.call_id, each.seq, each.at, each.event_type, each.policy)
                for number, each in enumerate(notices, self._last + 1)
            ]
            self._last += len(numbered)
            self._kept.extend(numbered)
            for mailbox in self._mailboxes:
                mailbox.put(numbered)

    @asynccontextmanager
    async def subscribe(self, *, after: str | None = None) -> AsyncGenerator[AsyncIterator[Notice]]:
        mailbox = Mailbox(self._size)
        with self._lock:  # nothing may come between what was kept and what comes now
            mailbox.put([] if after is None else self._since(after))
            self._mailboxes.add(mailbox)
        try:
            yield mailbox
        finally:
            with self._lock:
                self._mailboxes.discard(mailbox)

    def _since(self, after: str) -> list[Notice]:
        kept = list(self._kept)
        for place, notice in enumerate(kept):
            if notice.id == after:
                return kept[place + 1 :]
        return [gap(str(self._last))]

    def close(self) -> None:
        """Ends the subscriptions."""
        with self._lock:
            for mailbox in self._mailboxes:
                mailbox.end()
