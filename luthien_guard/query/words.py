"""Two texts as one, with what was taken out and what was put in: lines first, then the words of lines that changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from luthien_guard.query.alignment import Work, aligned

__all__ = ["Piece", "pieces", "unified"]

_LINES: Final = re.compile(r"[^\n]*\n|[^\n]+")
_WORDS: Final = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text. The pieces that are not "added" make the old text, those that are not "removed" the new one."""

    kind: Literal["same", "removed", "added"]
    text: str


def pieces(before: str, after: str) -> list[Piece]:
    """The differences, word by word."""
    old, new = _LINES.findall(before), _LINES.findall(after)
    found: list[Piece] = []
    work = Work()
    for left, right in aligned(old, new, work):
        found += _words("".join(old[left]), "".join(new[right]), work)
    return found


def _words(before: str, after: str, work: Work) -> list[Piece]:
    if before == after:
        return [Piece("same", before)]
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    found: list[Piece] = []
    for left, right in aligned(old, new, work):
        if old[left] == new[right]:
            found.append(Piece("same", "".join(old[left])))
            continue
        found += [Piece("removed", "".join(old[left]))] if old[left] else []
        found += [Piece("added", "".join(new[right]))] if new[right] else []
    return found


def unified(before: str, after: str, context: int = 3) -> list[str]:
    """Lines with "-", "+" or " " before them, and no more than `context` that did not change around those that did."""
    old, new = before.split("\n"), after.split("\n")
    lines: list[str] = []
    for left, right in aligned(old, new):
        if old[left] == new[right]:
            last = left.stop == len(old)
            lines += _around(old[left], 0 if left.start == 0 else context, 0 if last else context)
        else:
            lines += [*(f"- {line}" for line in old[left]), *(f"+ {line}" for line in new[right])]
    return lines


def _around(lines: list[str], head: int, tail: int) -> list[str]:
    hidden = len(lines) - head - tail
    shown = [f"  {line}" for line in lines]
    return shown if hidden <= 1 else [*shown[:head], f"  ({hidden} more lines)", *shown[len(lines) - tail :]]
