"""What the tests of texts that clients join look for, and who forbids it."""

from __future__ import annotations

import pytest

from luthien_guard import Block, ContentChunk, Policy, hookimpl

__all__ = ["MARK", "Forbids", "steps"]

MARK = "Nightjar"
steps = pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])


class Forbids(Policy):
    lookahead = len(MARK)

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("mark", "NO") if MARK in chunk.text else None
