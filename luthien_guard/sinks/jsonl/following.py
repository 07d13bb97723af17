"""Who follows the file goes on where it was: also when lines were taken out of it, when it was cut, or when another one
has its name."""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from luthien_guard.sinks import positions
from luthien_guard.sinks.jsonl.files import end_of, has_name
from luthien_guard.sinks.jsonl.lines import Line, lines_in
from luthien_guard.store import Row, paged

__all__ = ["Following"]


class Following:
    """Any number of followers, each with a position of its own. Methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._before: FileIO | None = None  # what had the name, for who has not seen all of it
        self._number = 0  # of the file

    def close(self) -> None:
        for file in (self._file, self._before):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
        self._file = self._before = None
        self._number += 1  # the next one may be another

    def end(self) -> int:
        with _reader(self._looked()) as reader:
            return positions.position(self._number, end_of(reader))

    def place(self, position: int) -> int:
        """Where in the file of now the position is. Raises OSError where nobody can say that any more."""
        file = self._looked()
        number, place = positions.split(position)
        if number == self._number - 1 and self._before is not None:
            return _carried(self._before, place, file)
        if number != self._number:
            raise OSError("the file was replaced since it was read")
        return place

    def rows(self, position: int, limit: int) -> tuple[int, list[Row]]:
        """(the position to go on from, the rows after `position`)"""
        file = self._looked()
        number, place = positions.split(position)
        if position and number == self._number - 1 and self._before is not None:
            place, found = _rows(self._before, place, limit)
            if found:
                return positions.position(number, place), found
            place = _carried(self._before, place, file)
        elif number != self._number or not _ends_a_line(file, place):
            place = 0
        place, found = _rows(file, place, limit)
        return positions.position(self._number, place), found

    def _looked(self) -> FileIO:
        """The file of now. While nothing has the name, the one that had it."""
        if self._file is None:
            self._file = FileIO(self._path, "r")
        elif not has_name(self._file, self._path):
            with contextlib.suppress(FileNotFoundError):
                self._go_over(FileIO(self._path, "r"))
        return self._file

    def _go_over(self, fresh: FileIO) -> None:
        if self._before is not None:
            self._before.close()
        self._before, self._file = self._file, fresh
        self._number += 1


def _reader(file: FileIO) -> BinaryIO:
    """A buffer of its own, that has nothing of what stood there before."""
    return os.fdopen(os.dup(file.fileno()), "rb")


def _rows(file: FileIO, place: int, limit: int) -> tuple[int, list[Row]]:
    found: list[Row] = []
    with _reader(file) as reader:
        for _, end, row in paged(lines_in(reader, place), _payload):
            place = end
            found += [] if row is None else [row]
            if len(found) == limit:
                break
    return place, found


def _payload(line: Line) -> object:
    return None if line[2] is None else line[2].payload


def _ends_a_line(file: FileIO, place: int) -> bool:
    """It was not cut meanwhile."""
    with _reader(file) as reader:
        reader.seek(max(place - 1, 0))
        return place == 0 or reader.read(1) == b"\n"


def _carried(old: FileIO, place: int, new: FileIO) -> int:
    """Where in the new file the lines end that stand before `place` in the old one: of a file that was pruned it has
    some, in their order, and of any other none."""
    end = 0
    with _reader(old) as before, _reader(new) as after:
        before.seek(0)
        after.seek(0)
        line = after.readline()
        while line and place > 0:
            passed = before.readline()
            place -= len(passed) or place
            if passed == line:
                end += len(line)
                line = after.readline()
    return end
