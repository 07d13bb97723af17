"""Writing with patience: a row that a store never takes must not hold up those behind it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Final, Protocol

from luthien_guard.errors import SinkError
from luthien_guard.sinks.jsonl import files
from luthien_guard.store import Row, Written

__all__ = ["BACKOFF", "Patient", "Quarantine", "Target"]

logger = logging.getLogger("luthien_guard")

BACKOFF: Final = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between tries
_TRIES: Final = 5
_SMALL: Final = 10_000  # characters of a payload


class Target(Protocol):
    """Where rows go: a local store, a remote one, or the spool in front of it."""

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written: ...


class Quarantine:
    """Rows that were given up, in a file of their own (one JSON object a line), never thrown away."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.count = 0

    def put(self, row: Row, problem: str) -> None:
        """Raises SinkError when the file cannot be written: the row is then tried again."""
        if self.path is not None:
            line = json.dumps({"problem": problem, **asdict(row)}).encode() + b"\n"
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                _appended(self.path, line)
            except OSError as error:
                raise SinkError(f"quarantine {self.path}: {error}") from None
        self.count += 1
        logger.error("record %s/%d is in quarantine: %s", row.call_id, row.seq, problem)


def _appended(path: Path, line: bytes) -> None:
    """On disk when it returns, for nobody else keeps the row. Raises OSError."""
    with FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+") as file:
        files.wait_locked(file.fileno())  # the processes of one folder share it
        whole = files.ends_a_line(file)
        files.append(file, [b"" if whole else b"\n", line], durable=True)


class Patient:
    """Writes rows to one target. After five tries in halves, down to single rows: one that fails twice, while another that
    is stored already is taken again, is poison."""

    def __init__(self, target: Target, quarantine: Quarantine) -> None:
        self._target = target
        self._quarantine = quarantine
        self._stored: Row | None = None  # a small one: the proof that the store is not to blame

    def write(self, rows: Sequence[Row], tries: int, *, durable: bool = False) -> Written:
        """`tries`: how often these have failed. Raises SinkError where the store is to blame: nothing passes, or it went
        away meanwhile; and for a row that is the first of all, until there is another one to compare it with."""
        if not rows:
            return Written()
        if tries >= _TRIES:
            return self._in_parts(rows, durable)
        written = attempt(self._target, rows, durable=durable)
        self._remember(rows[-1])
        return written

    def _in_parts(self, rows: Sequence[Row], durable: bool) -> Written:
        # as durable as the rows have to be: a disk that takes everything and syncs nothing is to blame itself
        if self._stored is not None:  # while the store hangs, it is asked once and not for every row
            attempt(self._target, [self._stored], durable=durable)
        written: list[Written] = []
        refused: list[tuple[Row, SinkError]] = []
        self._halve(rows, durable, written, refused)
        if self._stored is None:
            raise refused[-1][1]
        poison: list[tuple[Row, str]] = []
        for row, _ in refused:
            try:
                written.append(attempt(self._target, [row], durable=durable))
            except SinkError as error:
                attempt(self._target, [self._stored], durable=durable)  # raises when it is not the row
                poison.append((row, str(error)))
        for row, reason in poison:
            self._quarantine.put(row, reason)
        return Written(
            sum(each.stored for each in written),
            sum(each.known for each in written),
            tuple(row for each in written for row in each.conflicts),
            len(poison),
            sum(each.pruned for each in written),
            sum(each.evicted for each in written),
        )

    def _halve(
        self,
        rows: Sequence[Row],
        durable: bool,
        written: list[Written],
        refused: list[tuple[Row, SinkError]],
    ) -> None:
        """Write them in as few parts as can be; `refused` are the rows that fail alone, too."""
        try:
            written.append(attempt(self._target, rows, durable=durable))
            self._remember(rows[-1])
        except SinkError as error:
            if len(rows) == 1:
                refused.append((rows[0], error))
                return
            middle = len(rows) // 2
            self._halve(rows[:middle], durable, written, refused)
            self._halve(rows[middle:], durable, written, refused)

    def _remember(self, row: Row) -> None:
        if self._stored is None or len(row.payload) <= _SMALL:
            self._stored = row


def attempt(target: Target, rows: Sequence[Row], *, durable: bool = False) -> Written:
    """The one call of a store's `write`: whatever its driver raises is a SinkError."""
    try:
        return target.write(rows, durable=durable)
    except SinkError:
        raise
    except Exception as error:
        raise SinkError(f"{type(error).__name__}: {error}") from error
