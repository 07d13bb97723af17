"""The demo for people: a table in a terminal that is wide enough, where rich is installed, and otherwise a few lines a case."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from luthien_guard.cli.demo.results import Result
from luthien_guard.cli.terminal import say
from luthien_guard.testing.transcript import Transcript

__all__ = ["draw", "progress", "row_of", "show"]

T = TypeVar("T")
_HEAD = (
    "case",
    "wire format",
    "came from upstream",
    "left for the client",
    "policy",
    "first / last\nbyte, ms\nlater",
)
_WIDE: Final = 120  # columns: below, six of them would be read letter by letter


def progress(items: Sequence[T]) -> Iterator[T]:
    """The items, with a bar on a terminal while they are worked on."""
    if importlib.util.find_spec("rich") is None or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description="replaying", console=Console(stderr=True), transient=True)


def show(results: Iterable[Result]) -> None:
    rows = [row_of(result) for result in results]
    if not sys.stdout.isatty() or importlib.util.find_spec("rich") is None:
        _plain(rows)
        return
    from rich.console import Console

    console = Console()
    if console.width < _WIDE:
        _plain(rows)
    else:
        draw(rows, console)


def draw(rows: list[tuple[str, ...]], console: Any) -> None:
    """The table; `console` is one of rich's."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="luthien_guard: three policies on one stream", show_lines=True, expand=True)
    for name, ratio in zip(_HEAD, (None, None, 1, 1, None, None), strict=True):
        table.add_column(name, ratio=ratio, overflow="fold")
    for case, wire_format, came, left, policies, cost in rows:
        # Names stand whole: the columns of the texts get what is left.
        cells = (case, wire_format.replace(" ", "\n"), came, left, policies.replace(", ", ",\n"), cost)
        table.add_row(*(Text(cell, style="red" if cell.startswith("✘") else "") for cell in cells))
    console.print(table)


def _plain(rows: list[tuple[str, ...]]) -> None:
    for case, wire_format, came, left, policies, cost in rows:
        say(f"{case}, {wire_format}: {policies}; first / last byte {cost} ms later")
        for mark, text in (("came", came), ("left", left)):
            say("\n".join(f"  {mark}  {line}" for line in text.split("\n") if line))
        say()


def row_of(result: Result) -> tuple[str, ...]:
    """Its cells, in the order of the columns."""
    case = result.case
    way = "stream" if case.stream else "body"
    cost = f"{_milliseconds(result.added_first)} / {_milliseconds(result.added_last)}"
    return (
        case.name,
        f"{case.wire_format} {way}",
        _said(result.came),
        "✘ " + "; ".join(result.broken) if result.broken else _said(result.left),
        ", ".join(result.by) or "-",
        cost,
    )


def _milliseconds(added: float) -> str:
    """Two runs of the same differ by about one: less cannot be told from none."""
    return f"{added:.0f}" if added >= 1 else "<1"


def _said(transcript: Transcript) -> str:
    parts = [
        _short(transcript.reasoning, "thinks: "),
        _short(transcript.text),
        _short(transcript.refusal, "refuses: "),
    ]
    parts += [_short(f"{call.name}({call.arguments})", "⚙ ") for call in transcript.tool_calls]
    if transcript.error is not None:
        parts.append(_short(str(transcript.error.get("message", transcript.error)), "error: "))
    return _printable("\n".join(part for part in parts if part) or "(nothing)")


def _short(text: str, prefix: str = "", length: int = 140) -> str:
    return prefix + (text if len(text) <= length else text[: length - 1] + "…") if text else ""


def _printable(text: str) -> str:
    """A model's text must not move the terminal's cursor."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text)
