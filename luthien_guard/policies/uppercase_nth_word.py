"""Upper-cases every n-th word of the answer: the smallest policy that shows streaming done right.

Upper-casing has no context (Unicode's special cases of it need none), so nothing has to be held: a word that is cut by
a chunk's border is upper-cased piece by piece. White space is kept to the letter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from luthien_guard.events import ContentChunk
from luthien_guard.policy import Policy, PolicyContext, hookimpl

__all__ = ["UppercaseNthWord"]

_PART: Final = re.compile(r"\s+|\S+")


@dataclass(slots=True)
class _Words:
    """How far each text is: the number of its words so far, and whether it stands inside one."""

    count: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    inside: dict[tuple[int, int], bool] = field(default_factory=dict[tuple[int, int], bool])


class UppercaseNthWord(Policy):
    """`n` counts from 1: with n=3 it is the 3rd, 6th, 9th... word of each text."""

    channels = frozenset({"content"})

    def __init__(self, n: int = 3) -> None:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n is {n!r}: a whole number from 1")
        self.n = n

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> ContentChunk | None:
        if not chunk.writable:
            return None
        words = ctx.state(_Words)
        key = (chunk.choice, chunk.index)
        count, inside = words.count.get(key, 0), words.inside.get(key, False)
        parts = _PART.findall(chunk.text)
        for at, part in enumerate(parts):
            if part.isspace():
                inside = False
                continue
            count += not inside
            inside = True
            if count % self.n == 0:
                parts[at] = part.upper()
        words.count[key], words.inside[key] = count, inside
        text = "".join(parts)
        return chunk.replace(text=text) if text != chunk.text else None
