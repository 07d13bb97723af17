"""The thread that carries rows from the spool to a remote store, at least once, in order, for as long as it takes."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from luthien_guard.delivery.ledger import Ledger
from luthien_guard.delivery.quarantine import BACKOFF, Patient, Quarantine
from luthien_guard.delivery.spool import Spool
from luthien_guard.errors import SinkError
from luthien_guard.store import Store, intact

__all__ = ["Forwarder"]

logger = logging.getLogger("luthien_guard")

_SLEEP: Final = 0.5  # seconds without news after which it looks by itself


class Forwarder:
    """`start` it after the spool is open; `notify` tells it that there is something to carry."""

    def __init__(
        self,
        spool: Spool,
        store: Store,
        ledger: Ledger,
        quarantine: Quarantine,
        drained: Callable[[], None] = lambda: None,
    ) -> None:
        self.failure: str | None = None  # why the store takes nothing now
        self._spool = spool
        self._store = store
        self._ledger = ledger
        self._quarantine = quarantine
        self._patient = Patient(store, quarantine)
        self._news = threading.Event()
        self._carried = threading.Condition()
        self._stopping: float | None = None
        self._thread: threading.Thread | None = None
        self._last: threading.Thread | None = None  # that of before a restart
        self._open = False
        # Called once, when everything of before has been carried.
        self._drained: Callable[[], None] | None = drained

    def start(self) -> None:
        if self._thread is None:
            self._stopping = None
            self._ledger.found(len(self._spool))
            run = partial(self._run, self._last)
            self._thread = threading.Thread(target=run, name="luthien-guard-forwarder", daemon=True)
            self._thread.start()

    def notify(self) -> None:
        self._news.set()

    def wait(self, seconds: float) -> bool:
        """Wait until something has been carried; False when nothing was, in that time."""
        with self._carried:
            return self._carried.wait(seconds)

    def stop(self, seconds: float) -> None:
        """Carry what can be carried in that time; the rest waits in the spool for the next process."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping = time.monotonic() + seconds
            self._news.set()
            thread.join(seconds + 1)
            self._last = thread

    def _run(self, before: threading.Thread | None) -> None:
        if before is not None:  # it may hang in the store still, and rows are carried by one
            before.join()
        tries = 0
        try:
            while self._stopping is None or (len(self._spool) and time.monotonic() < self._stopping):
                try:
                    carried = self._carry(tries)
                    tries = 0
                except Exception as error:  # noqa: BLE001 -- whatever a driver raises, the rows wait and this thread lives
                    tries += 1
                    self._failed(str(error) if isinstance(error, SinkError) else repr(error))
                    if self._stopping is not None:
                        return
                    self._news.wait(BACKOFF[min(tries, len(BACKOFF)) - 1])
                    self._news.clear()
                    continue
                if not carried:
                    self._news.wait(_SLEEP)
                    self._news.clear()
        finally:
            if self._open:
                self._open = False
                with contextlib.suppress(Exception):
                    self._store.close()

    def _carry(self, tries: int) -> int:
        if not self._open:
            self._store.open()
            self._open = True
        found = self._spool.peek()
        self._ledger.damaged(self._spool.lost())
        if not found:
            if self._drained is not None:
                self._drained()
                self._drained = None
            return 0
        rows = [row for _, row in found if intact(row)]
        written = self._patient.write(rows, tries, durable=True)
        if self.failure is not None:
            logger.warning("the store takes records again")
            self.failure = None
        damaged = [row for _, row in found if not intact(row)] if len(rows) < len(found) else []
        for row in damaged:
            self._quarantine.put(row, "it was damaged in the spool")
        self._spool.forget([position for position, _ in found])
        written = replace(written, quarantined=written.quarantined + len(damaged))
        self._ledger.wrote(len(found), written, from_spool=True)
        with self._carried:
            self._carried.notify_all()
        return len(rows)

    def _failed(self, problem: str) -> None:
        if self.failure is None:
            logger.error("the store takes no records, they wait in the spool: %s", problem)
        self.failure = problem
