"""Positions of a tail: in which file, for files are replaced, and where in it. 0 means the beginning of the file of now."""

from __future__ import annotations

from typing import Final

__all__ = ["after_row", "next_row", "position", "split"]

_PLACES: Final = 2**65  # of one file
_LEAST: Final = -(2**63)  # the smallest number of a row that a database takes: who tampers uses it
_MOST: Final = 2**63 - 1


def position(file: int, place: int) -> int:
    return file * _PLACES + place


def split(position: int) -> tuple[int, int]:
    """(the file, the place in it)"""
    return divmod(position, _PLACES)


def after_row(number: int) -> int:
    """The place behind the row with this number. Place 0 is before all rows."""
    return number + 1 - _LEAST


def next_row(place: int) -> int | None:
    """The smallest number that a row at this place or behind it can have; None where no row can be any more."""
    number = place + _LEAST
    return number if number <= _MOST else None
