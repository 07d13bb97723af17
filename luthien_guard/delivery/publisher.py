"""The thread that tells the hub what was stored. A hub that hangs delays nobody: its notices are dropped, counted."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

from luthien_guard.pubsub import Notice, PubSub
from luthien_guard.store import Row

__all__ = ["Publisher"]

logger = logging.getLogger("luthien_guard")

_MOST: Final = 10_000
_GROUP: Final = 500


class Publisher:
    """`put` rows that were written; subscribers hear of them soon, or of a gap."""

    def __init__(self, hub: PubSub) -> None:
        self.dropped = 0
        self._hub = hub
        self._queue: deque[Notice] = deque()
        self._wake = threading.Condition()
        self._stopping = self._failing = False
        self._thread: threading.Thread | None = None
        self._last: threading.Thread | None = None  # that of before a restart

    def put(self, rows: Sequence[Row]) -> None:
        with self._wake:
            room = _MOST - len(self._queue)
            self.dropped += max(len(rows) - room, 0)
            self._queue.extend(
                Notice("", row.call_id, row.seq, row.at, row.event_type, row.policy) for row in rows[:room]
            )
            self._wake.notify()

    def start(self) -> None:
        if self._thread is None:
            self._stopping = False
            run = partial(self._run, self._last)
            self._thread = threading.Thread(target=run, name="luthien-guard-publisher", daemon=True)
            self._thread.start()

    def stop(self, seconds: float) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            with self._wake:
                self._stopping = True
                self._wake.notify()
            thread.join(seconds)
            self._last = thread

    def _run(self, before: threading.Thread | None) -> None:
        if before is not None:  # it may hang in the hub still, which is used by one
            before.join()
        opened = False
        while group := self._group():
            try:
                if not opened:
                    self._hub.open()
                    opened = True
                self._hub.publish(group)
            except Exception as error:  # noqa: BLE001 -- whatever a driver raises, the next notices are tried
                self._failed(len(group), error)
            else:
                self._went_out()
        if opened:
            with contextlib.suppress(Exception):
                self._hub.close()

    def _failed(self, count: int, error: Exception) -> None:
        with self._wake:
            self.dropped += count
        if not self._failing:
            logger.warning("pubsub takes no notices, they are dropped: %s", error)
        self._failing = True

    def _went_out(self) -> None:
        if self._failing:
            logger.warning("pubsub takes notices again (%d were dropped so far)", self.dropped)
        self._failing = False

    def _group(self) -> list[Notice]:
        with self._wake:
            while not self._queue and not self._stopping:
                self._wake.wait()
            return [self._queue.popleft() for _ in range(min(len(self._queue), _GROUP))]
