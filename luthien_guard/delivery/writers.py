"""Which process writes what: a lock file for each writer, so that what a dead one left open can be closed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

__all__ = ["Writer", "alone_in", "dead_writers"]

_END: Final = ".writer"
_PATIENCE: Final = 5.0  # seconds for another process to look through a folder
_AGAIN: Final = 0.01


class Writer:
    """This process as a writer; `id` stands in every call that it records. Locked until `release`."""

    def __init__(self, folder: Path, id: str | None = None) -> None:
        self.id = id or uuid4().hex
        self.path = folder / f"{self.id}{_END}"
        self._file: int | None = None

    def acquire(self) -> None:
        """Begin it. The file gets its name when it is locked already: who looks for the dead never sees it unlocked.
        Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beginning = self.path.with_suffix(f".{uuid4().hex}")
        file = os.open(beginning, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if _lock(file):
            self._file = file
        else:  # no locks here: it is never known to be dead
            os.close(file)
        beginning.replace(self.path)

    def acquire_dead(self) -> bool:
        """Take it over from a process that has ended; False while that lives, or where nobody can know."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        if not _lock(file):
            os.close(file)
            return False
        self._file = file
        return True

    def release(self) -> None:
        """End it: nothing of it is open any more."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.keep()

    def keep(self) -> None:
        """Unlock it again, still to be closed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def dead_writers(folder: Path, *more: str) -> Iterator[Writer]:
    """Writers whose processes have ended without a `release`, locked by us now: `release` them when their calls are
    closed. `more`: endings of other files that are named after writers."""
    names = {path.name for end in (_END, *more) for path in folder.glob(f"*{end}")}
    for id in sorted({name.rpartition(".")[0] for name in names}):
        writer = Writer(folder, id)
        if writer.acquire_dead():
            yield writer


@contextlib.contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """Nobody else who asks for it takes or leaves writers of this folder meanwhile: they go to one heir together, for
    the rows of one may wait in the spool of another."""
    file = _opened(folder)
    try:
        end = time.monotonic() + _PATIENCE
        while file is not None and _lock(file) is False and time.monotonic() < end:
            time.sleep(_AGAIN)
        yield
    finally:
        if file is not None:
            os.close(file)


def _opened(folder: Path) -> int | None:
    """None where folders cannot be opened."""
    try:
        return os.open(folder, os.O_RDONLY)
    except PermissionError:
        if os.name == "posix":
            raise
        return None


def _lock(file: int) -> bool | None:
    """False while somebody else has it; None where there are no locks, on this platform or in this file system."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
