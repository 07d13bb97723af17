"""The writer's thread: takes records from traffic without ever making it wait, writes them in groups.

Traffic puts and goes on. Who needs a record to be durable first awaits `durable()`: the next group is then written at
once, and one commit answers everybody who waits (group commit).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from luthien_guard.delivery.chain import Chain, shrunk
from luthien_guard.delivery.ledger import Ledger
from luthien_guard.delivery.owed import OWED
from luthien_guard.delivery.quarantine import BACKOFF, Patient, Quarantine, Target
from luthien_guard.delivery.waiting import Ticket
from luthien_guard.errors import SinkError
from luthien_guard.records import CLASSES, EventType, Record, RecordClass, weight
from luthien_guard.store import Row

__all__ = ["Journal"]

logger = logging.getLogger("luthien_guard")

_GROUP: Final = 500  # rows a transaction
_LINGER: Final = 0.03  # seconds that a record waits for company
# Times `max_records`: there only what runs already is put on record, its decisions to the last.
_OVERLOAD: Final = 5

#: What waits, and how many bytes of content it holds.
_Waiting: TypeAlias = tuple[Record | Ticket, int]


class Journal:
    """A bounded queue and the thread that empties it. `full` says whether the disk behind it is."""

    def __init__(
        self,
        target: Target,
        *,
        ledger: Ledger | None = None,
        strict: bool = False,
        spooling: bool = False,
        max_records: int = 20_000,
        max_bytes: int = 256 * 1024 * 1024,
        patience: float = 5.0,
        backoff: Sequence[float] = BACKOFF,
        quarantine: Quarantine | None = None,
        written: Callable[[Sequence[Row]], None] = lambda _: None,
        full: Callable[[], bool] = lambda: False,
    ) -> None:
        self.ledger = ledger or Ledger()
        self.failure: str | None = None  # what the last attempt to write died of
        self._strict = strict
        self._spooling = spooling
        self._max = max_records
        self._max_bytes = max_bytes
        self.patience = patience  # seconds that somebody waits for a commit before it counts as failed
        self._backoff = backoff
        self._target = Patient(target, quarantine or Quarantine())
        self._written = written
        self._full = full
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._idle = True  # the thread is asleep, or about to be
        self._urgent = False
        self._stopping: float | None = None  # when the flush must be over
        self._thread: threading.Thread | None = None
        self._last: threading.Thread | None = None  # that of before a restart
        self._chain = Chain()
        self._pending: list[
            Row
        ] = []  # the rows of a group that could not be written: they are chained already

    # -- from traffic --------------------------------------------------------------------------------------------------

    @property
    def overloaded(self) -> bool:
        """Nobody empties the queue: what begins now cannot be put on record. That bounds it, for decisions are kept."""
        return len(self._queue) >= self._max * _OVERLOAD

    def has_room(self, type: EventType) -> bool:
        """Activities are the first to go; then content, of which not even the hash is kept any more."""
        kind = CLASSES[type]
        if kind is RecordClass.DECISION or not self._is_full():
            return True
        if kind is RecordClass.CONTENT and not self.overloaded:
            return True
        self.refuse()
        return False

    def refuse(self) -> None:
        """Count a record for which there is no room."""
        self.ledger.accept()
        self.ledger.drop("overflow")

    def put(self, record: Record) -> None:
        """Queue the record. Content shrinks when there is no room for it, decisions never do."""
        content = CLASSES[record.type] is RecordClass.CONTENT
        if content and self._is_full():
            self.ledger.degrade()
            record = shrunk(record)
        held = weight(record.details) if content else 0
        self.ledger.accept(bytes=held)
        self._queue.append((record, held))
        if self._idle:
            with self._wake:
                self._wake.notify()

    def _is_full(self) -> bool:
        return len(self._queue) >= self._max or self.ledger.bytes >= self._max_bytes or self._full()

    async def durable(self) -> None:
        """Everything put so far is written; in strict mode what is owed is on disk. Raises SinkError."""
        if self._thread is None:
            raise SinkError("the record cannot be stored: the guard is stopped")
        ticket = Ticket.here()
        with self._wake:
            self._queue.append((ticket, 0))
            self._urgent = True
            self._wake.notify()
        if not await ticket.done(self.patience):
            raise SinkError(
                f"the record could not be stored in {self.patience:g} s: {self.failure or 'no answer'}"
            )

    # -- the thread ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._thread is None:
            self._stopping = None
            run = partial(self._run, self._last)
            self._thread = threading.Thread(target=run, name="luthien-guard-journal", daemon=True)
            self._thread.start()

    def stop(self, seconds: float = 5.0) -> bool:
        """Write what is left, for at most so long. False when something could not be written: it is counted."""
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        with self._wake:
            self._stopping = time.monotonic() + seconds
            self._wake.notify()
        thread.join(seconds + 1)
        self._last = thread
        left = sum(isinstance(each, Record) for each, _ in self._queue)
        if left:
            logger.error("%d records were not written before the end: %s", left, self.failure)
        return not left

    @property
    def open_calls(self) -> bool:
        """Something is on record without its end."""
        return self._chain.open

    def _run(self, before: threading.Thread | None) -> None:
        if before is not None:  # it may hang in the store still, and there is one writer at a time
            before.join()
        tries = 0
        while group := self._group():
            try:
                self._write(group, tries)
                tries = 0
            except SinkError as error:
                tries += 1
                self._told(str(error))
                if self._stopping is not None and time.monotonic() >= self._stopping:
                    return
                time.sleep(self._backoff[min(tries, len(self._backoff)) - 1])

    def _group(self) -> list[_Waiting]:
        """What is written next; it stays in the queue until it is. Empty when it is time to go."""
        with self._wake:
            self._idle = True
            while not self._queue and self._stopping is None:
                self._wake.wait()
            self._idle = False
            if not self._urgent and self._stopping is None and len(self._queue) < _GROUP:
                self._wake.wait(_LINGER)
            self._urgent = False
        return [self._queue[at] for at in range(min(len(self._queue), _GROUP))]

    def _write(self, group: list[_Waiting], tries: int) -> None:
        records = [each for each, _ in group if isinstance(each, Record)]
        tickets = [each for each, _ in group if isinstance(each, Ticket)]
        rows = self._pending
        for record in records[len(rows) :]:
            rows.append(self._chain.row(record))
        written = self._target.write(rows, tries, durable=self._strict and self._owed(records))
        self._pending = []
        if self.failure is not None:
            logger.warning("records are written again")
            self.failure = None
        held = sum(held for _, held in group)
        self.ledger.wrote(len(rows), written, into_spool=self._spooling, bytes=held)
        for _ in group:
            self._queue.popleft()
        for ticket in tickets:
            ticket.resolve()
        self._written(rows)

    def _owed(self, records: list[Record]) -> bool:
        """Somebody waits for one of them, or is going to: who asks when the group has been written already finds it on
        disk."""
        return any(record.type in OWED["strict"] for record in records)

    def _told(self, problem: str) -> None:
        if self.failure is None:
            logger.error("records cannot be written: %s", problem)
        self.failure = problem
