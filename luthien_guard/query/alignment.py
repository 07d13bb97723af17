"""Which parts of two sequences belong together, within a bound: what is compared was chosen by strangers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final

__all__ = ["aligned"]

#: Pairs of equal parts that are looked at; every search for the longest run looks at each of them, so that thousands of
#: one word would take hours.
_PAIRS: Final = 100_000


def aligned(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[slice, slice]]:
    """Runs of both, in order and without gaps: equal ones, and ones that took each other's place (of which one may be
    empty). Beyond the bound the middle is one run."""
    start = _alike(old, new)
    end = _alike(old[start:][::-1], new[start:][::-1])
    inner = old[start : len(old) - end], new[start : len(new) - end]
    if start:
        yield slice(0, start), slice(0, start)
    for a, b, c, d in _runs(*inner):
        yield slice(start + a, start + b), slice(start + c, start + d)
    if end:
        yield slice(len(old) - end, len(old)), slice(len(new) - end, len(new))


def _runs(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    counts = Counter(new)
    if sum(counts[part] for part in old) > _PAIRS:
        yield 0, len(old), 0, len(new)
        return
    for _, *bounds in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield bounds[0], bounds[1], bounds[2], bounds[3]


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts they begin with in common."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
