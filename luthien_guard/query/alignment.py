"""Which parts of two sequences belong together, within a bound: what is compared was chosen by strangers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Final, TypeAlias

__all__ = ["Work", "aligned"]

#: About a second. Every search for the longest run takes a step for each part that it looks at, and one for each equal
#: part on the other side: thousands of runs, or thousands of one word, would take hours.
_STEPS: Final = 1_000_000
#: From, to in the old one; from, to in the new one.
_Run: TypeAlias = tuple[int, int, int, int]


@dataclass(slots=True)
class Work:
    """The steps that may still be taken. Comparisons that belong together share them."""

    steps: int = _STEPS

    def takes(self, steps: int) -> bool:
        """False where that is more than is left."""
        if steps > self.steps:
            return False
        self.steps -= steps
        return True


def aligned(
    old: Sequence[str], new: Sequence[str], work: Work | None = None
) -> Iterator[tuple[slice, slice]]:
    """Runs of both, in order and without gaps: equal ones, and ones that took each other's place (of which one may be
    empty). Where `work` (by default enough for hundreds of changes in thousands of parts) does not suffice, what lies between two
    equal runs is one run."""
    start = _alike(old, new)
    end = _alike(old[start:][::-1], new[start:][::-1])
    inner = old[start : len(old) - end], new[start : len(new) - end]
    if start:
        yield slice(0, start), slice(0, start)
    for a, b, c, d in _runs(*inner, Work() if work is None else work):
        yield slice(start + a, start + b), slice(start + c, start + d)
    if end:
        yield slice(len(old) - end, len(old)), slice(len(new) - end, len(new))


def _runs(old: Sequence[str], new: Sequence[str], work: Work) -> Iterator[_Run]:
    """The equal ones, those that touch as one, and what lies between them."""
    a = b = c = d = 0
    ends = (len(old), len(old), len(new), len(new))
    for start, stop, other, until in [*sorted(_equal(old, new, work)), ends]:
        if (start, other) != (b, d):
            if a < b:
                yield a, b, c, d
            yield b, start, d, other
            a, c = start, other
        b, d = stop, until
    if a < b:
        yield a, b, c, d


def _equal(old: Sequence[str], new: Sequence[str], work: Work) -> Iterator[_Run]:
    """The longest run of equal parts, then the longest before it and behind it, and so on."""
    counts = Counter(new)
    upto = [0, *accumulate(1 + counts[part] for part in old)]
    todo = [(0, len(old), 0, len(new))]
    matcher: SequenceMatcher[str] | None = None
    while todo:
        a, b, c, d = todo.pop()
        if a == b or c == d or not work.takes(upto[b] - upto[a]):
            continue
        matcher = matcher or SequenceMatcher(None, old, new, autojunk=False)
        found = matcher.find_longest_match(a, b, c, d)
        if found.size:
            stop, until = found.a + found.size, found.b + found.size
            yield found.a, stop, found.b, until
            todo += [(stop, b, until, d), (a, found.a, c, found.b)]


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts they begin with in common."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
