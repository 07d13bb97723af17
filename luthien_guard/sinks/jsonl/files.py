"""The file itself: what stands at its end, how lines are put there, whose it is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

__all__ = [
    "append",
    "end_of",
    "ends_a_line",
    "half_row",
    "has_name",
    "locked",
    "mended",
    "private",
    "sync_folder",
    "wait_locked",
]

_BLOCK: Final = 65_536
_BEGINNING: Final = b'{"call_id":'


def end_of(file: BinaryIO) -> int:
    """The position after the last whole line. Raises OSError."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(end - _BLOCK, 0)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def half_row(path: Path) -> int | None:
    """Where a row begins that somebody did not finish, or the end of the file; None where something else stands after
    the last whole line. Raises OSError."""
    with path.open("rb") as file:
        end = end_of(file)
        file.seek(end)
        return end if _BEGINNING.startswith(file.read(len(_BEGINNING))) else None


def mended(file: FileIO, path: Path) -> None:
    """Take away the row that a process left when it died while it wrote: it was never acknowledged. What somebody else
    left there becomes a line, which is no row."""
    end = half_row(path)
    if end is not None:
        file.truncate(end)
    else:
        append(file, [b"\n"], durable=False)


def append(file: FileIO, lines: Iterable[bytes], *, durable: bool) -> None:
    """All of it or nothing. No buffer: one that could not be flushed would come out later, in part."""
    end = file.seek(0, os.SEEK_END)
    left = memoryview(b"".join(lines))
    try:
        while left:
            left = left[file.write(left) or 0 :]
        if durable:
            os.fsync(file.fileno())
    except BaseException:
        file.truncate(end)
        raise


def private(path: Path) -> FileIO:
    """A new file that nobody else may read, not even while it is written."""
    path.unlink(missing_ok=True)  # somebody died
    return FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+")


def sync_folder(path: Path) -> None:
    """A file is on disk when its name is, too."""
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def locked(file: int) -> bool:
    """This open file is the only one that holds the lock, until it is closed."""
    try:
        wait_locked(file, wait=False)
    except OSError:
        return False
    return True


def wait_locked(file: int, *, wait: bool = True) -> None:
    """The same, when nobody else holds it any more. Raises OSError."""
    try:
        import fcntl
    except ImportError:  # no such locks here
        return
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def ends_a_line(file: BinaryIO | FileIO) -> bool:
    """Whole lines, or nothing, stand in it. Raises OSError."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - 1, 0))
    return file.read(1) in (b"", b"\n")


def has_name(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
