"""What commands print. Names, models and messages come from strangers: none of them may steer the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

import click

__all__ = ["columns", "fail", "printable", "say"]


def printable(text: object) -> str:
    """`text` with everything that is not printable (escape sequences, bidirectional marks, line ends) as `\\x1b`."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(text)
    )


def say(text: str = "", *, err: bool = False) -> None:
    """Print lines; what steers a terminal is shown as text."""
    click.echo("\n".join(printable(line) for line in text.split("\n")), err=err)


def fail(message: object, code: int = 2) -> NoReturn:
    """Say what is wrong on standard error and end with `code`: 2 is wrong usage or configuration."""
    say(f"error: {message}", err=True)
    sys.exit(code)


def columns(rows: Iterable[Sequence[object]], *, heads: Sequence[str] = ()) -> str:
    """Rows as aligned columns, two spaces between them."""
    table = [[printable(cell) for cell in row] for row in ([heads, *rows] if heads else rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
