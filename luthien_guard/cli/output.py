"""Tables and progress: with rich where it is installed and somebody watches, else plain columns, which pipes can rely on."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click

from luthien_guard.cli.terminal import columns, printable, say

__all__ = ["paint", "progress", "rich_table", "table"]

_CELL: Final = 60  # characters of a cell: a stranger's model name must not push the rest off the screen
_SPACES: Final = re.compile(r"^ | (?= |$)")
_COLORS: Final = {
    "success": "green", "blocked": "red", "policy_error": "red", "upstream_error": "yellow", "timeout": "yellow",
    "cancelled": "yellow", "interrupted": "yellow",
}  # fmt: skip


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their heads."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and _has_rich():
        from rich.console import Console

        rich_table(Console(), heads, cells)
    else:
        say(columns(cells, heads=heads))


def rich_table(console: Any, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """The same in colour, on a `rich.console.Console`. Cells are plain text: no markup, no emoji codes of a stranger's are read in them."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        made.add_column(head, no_wrap=head == "call", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell), style=_COLORS.get(cell, "")) for cell in row))
    console.print(made)


def paint(text: str, color: str) -> None:
    """Print lines in a colour, where somebody watches and wants any."""
    plain = False if os.environ.get("NO_COLOR") else None
    click.echo("\n".join(click.style(printable(line), fg=color) for line in text.split("\n")), color=plain)


@contextmanager
def progress(label: str, total: int | None = None) -> Generator[Callable[[int], None]]:
    """Gives a function that says how much is done. It is shown on standard error, and only to a terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
    elif _has_rich():
        with _rich_bar() as bar:
            task: Any = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        with click.progressbar(length=total or 0, label=label, file=sys.stderr) as plain:
            yield lambda done: plain.update(done - plain.pos)


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*parts, console=Console(stderr=True), transient=True)


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def _cell(value: object) -> str:
    """With no two spaces in a row: these stand between columns, and a stranger's name may not look like several."""
    text = _SPACES.sub(r"\\x20", printable(value))
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"
