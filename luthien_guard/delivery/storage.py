"""A store with everything that stands before it: the journal, for remote ones the spool, and who tells the hub."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal
from weakref import WeakSet

from luthien_guard.delivery.dead import adopt, interrupt
from luthien_guard.delivery.forwarder import Forwarder
from luthien_guard.delivery.journal import Journal
from luthien_guard.delivery.ledger import Ledger
from luthien_guard.delivery.places import folder_for, hub_at, store_at
from luthien_guard.delivery.publisher import Publisher
from luthien_guard.delivery.quarantine import Quarantine
from luthien_guard.delivery.spool import Spool
from luthien_guard.delivery.writers import Writer, alone_in, dead_writers
from luthien_guard.errors import SinkError
from luthien_guard.pubsub import PubSub
from luthien_guard.store import Row, Store

__all__ = ["Storage"]


_SPOOL: Final = ".spool"
_STORAGES: Final[WeakSet[Storage]] = WeakSet()
_INHERITED: Final[list[object]] = []


class Storage:
    """`start` and `stop` block: call them from a worker thread.

    `folder` is where the writer's lock, the pepper, the quarantine and (for a store that is not on this machine) the
    spool live; by default beside the store's file, or in the user's data folder.
    """

    def __init__(
        self,
        store: str | Store,
        folder: Path | None = None,
        *,
        durability: Literal["balanced", "strict"] = "balanced",
        hub: str | PubSub | None = None,
    ) -> None:
        self.url = store if isinstance(store, str) else None
        self._hub_url = hub if isinstance(hub, str) else None
        self._durability = durability
        self._lock = threading.Lock()
        self._orphan = False  # a fork has the store or the hub as an object whose connection is its parent's
        self._made(store_at(store), hub_at(hub), folder)
        _STORAGES.add(self)

    def _made(self, store: Store, hub: PubSub | None, folder: Path | None) -> None:
        self.hub = hub
        self.folder = folder or folder_for(store, self.url)
        self.ledger = Ledger()
        self.writer = Writer(self.folder)
        self._dead: list[Writer] = []  # locked by us until their calls are closed
        self._closing: threading.Thread | None = None
        self.running = False
        self._store = store
        self._publisher = None if hub is None else Publisher(hub)
        quarantine = Quarantine(self.folder / "quarantine.jsonl")
        self._spool = Spool(self.folder / f"{self.writer.id}{_SPOOL}") if store.remote else None
        self._forwarder = (
            None
            if self._spool is None
            else Forwarder(self._spool, store, self.ledger, quarantine, self._closed_dead)
        )
        self.journal = Journal(
            store if self._spool is None else self._spool,
            ledger=self.ledger,
            strict=self._durability == "strict",
            spooling=self._spool is not None,
            quarantine=quarantine,
            written=self._written,
            full=self._full,
        )

    def start(self) -> None:
        """Open everything; what is written last is flushed when the interpreter ends, also without a `stop`. Idempotent.
        Raises SinkError when the local part cannot be used, and nothing runs then; a remote store may be away."""
        with self._lock:
            if self.running:
                return
            if self._orphan:
                raise SinkError(
                    "a store or a hub that was given as an object does not survive a fork: give its URL"
                )
            try:
                self.writer.acquire()
            except OSError as error:
                raise SinkError(f"{self.writer.path}: {error}") from None
            try:
                self._opened()
            except BaseException:
                self._ended(0.1)
                raise
            self.running = True
            atexit.register(self.stop)

    def stop(self, seconds: float = 5.0) -> None:
        """Flush within that time. What a remote store could not take stays in the spool for the next process. Idempotent."""
        with self._lock:
            if self.running:
                self.running = False
                atexit.unregister(self.stop)
                self._ended(seconds)

    def _opened(self) -> None:
        if self._closing is not None:
            self._closing.join()
        with alone_in(self.folder):
            self._dead += dead_writers(self.folder, _SPOOL)
        if self._spool is None:
            self._store.open()
            self._closed_dead()
        else:
            self._spool.open()
            self._adopted()
        if self._forwarder is not None:
            self._forwarder.start()  # before the journal: it counts what an earlier process left
        self.journal.start()
        if self._publisher is not None:
            self._publisher.start()

    def _ended(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        flushed = self.journal.stop(seconds)
        if self._forwarder is not None:
            self._forwarder.stop(max(end - time.monotonic(), 0.1))
        if self._publisher is not None:
            self._publisher.stop(max(end - time.monotonic(), 0.1))
        self._close(max(end - time.monotonic(), 0.1))
        with alone_in(self.folder):
            for dead in self._dead:
                dead.keep()
            self._dead = []
            if flushed and not self.journal.open_calls and not (self._spool is not None and len(self._spool)):
                self._gone()
            else:
                self.writer.keep()  # the next process closes what is open

    def _close(self, seconds: float) -> None:
        """What hangs in it holds its lock, and may go on hanging."""
        close = self._store.close if self._spool is None else self._spool.close
        self._closing = threading.Thread(target=close, daemon=True)
        self._closing.start()
        self._closing.join(seconds)

    def forked(self) -> None:
        """In the child of a fork, where no thread of ours lives and every connection is the parent's: begin anew, stopped,
        with nothing in the queue."""
        _INHERITED.append((self._store, self._spool, self.hub))  # to close them here would disturb the parent
        atexit.unregister(self.stop)
        for each in (self.writer, *self._dead):
            each.keep()
        self._lock = threading.Lock()
        self._orphan = self.url is None or (self.hub is not None and self._hub_url is None)
        hub = hub_at(self._hub_url) if self._hub_url is not None else self.hub
        self._made(self._store if self.url is None else store_at(self.url), hub, self.folder)

    def wait_carried(self, seconds: float) -> bool:
        """Wait until rows have gone from the spool to the store; False when none have, in that time."""
        return self._forwarder is not None and self._forwarder.wait(seconds)

    def reader(self) -> Store:
        """A store for questions: another connection where there can be one."""
        alone = self.url is None or self.url == "memory://"
        return self._store if alone else store_at(str(self.url))

    def give_back(self, reader: Store) -> None:
        """Close what `reader` gave; not the store that the journal still writes."""
        with self._lock:
            if reader is not self._store or not self.running:
                reader.close()

    @property
    def health(self) -> Mapping[str, str]:
        """What is wrong now, by part; empty when all is well."""
        failures = {"journal": self.journal.failure, "store": self._forwarder and self._forwarder.failure}
        return {name: failure for name, failure in failures.items() if failure}

    # -- what happens beside -------------------------------------------------------------------------------------------

    def _written(self, rows: Sequence[Row]) -> None:
        if self._forwarder is not None:
            self._forwarder.notify()
        if self._publisher is not None:
            self._publisher.put(rows)

    def _full(self) -> bool:
        return self._spool is not None and self._spool.full

    def _gone(self) -> None:
        self.writer.release()
        if self._spool is not None:
            self._spool.remove()

    # -- what dead processes left --------------------------------------------------------------------------------------

    def _adopted(self) -> None:
        """Take over the spools of processes that have died."""
        assert self._spool is not None
        for path in (dead.path.with_suffix(_SPOOL) for dead in self._dead):
            if path.exists():
                adopt(path, self._spool)

    def _closed_dead(self) -> None:
        """Close the calls of processes that have died: their outcome is `interrupted`. For a remote store this runs
        when everything that they had spooled has been carried there."""
        while self._dead:
            for call_id in self._store.unfinished(self._dead[0].id):
                interrupt(self._store, call_id)
            self._dead.pop(0).release()


def _forked() -> None:
    for storage in list(_STORAGES):
        storage.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
