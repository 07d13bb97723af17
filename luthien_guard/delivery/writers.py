"""Which process writes what: a lock file for each writer, so that what a dead one left open can be closed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

__all__ = ["Writer", "dead_writers"]

_END = ".writer"


class Writer:
    """This process as a writer; `id` stands in every call that it records. Locked until `release`."""

    def __init__(self, folder: Path, id: str | None = None) -> None:
        self.id = id or uuid4().hex
        self.path = folder / f"{self.id}{_END}"
        self._file: int | None = None

    def acquire(self) -> bool:
        """False when another process has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        if not _lock(file):
            os.close(file)
            return False
        self._file = file
        return True

    def release(self) -> None:
        """End it: nothing of it is open any more."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._file)
            self._file = None

    def keep(self) -> None:
        """Unlock it again, still to be closed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def dead_writers(folder: Path) -> Iterator[Writer]:
    """Writers whose processes have ended without a `release`, locked by us now: `release` them when their calls are
    closed."""
    for path in sorted(folder.glob(f"*{_END}")):
        writer = Writer(folder, path.name.removesuffix(_END))
        if writer.acquire():
            yield writer


def _lock(file: int) -> bool:
    try:
        import fcntl
    except ImportError:  # no such locks here: a writer is never known to be dead
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
