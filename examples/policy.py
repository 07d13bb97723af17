"""A policy of one's own: secrets of a known shape are blacked out, wherever the stream was cut."""

from __future__ import annotations

import re

from luthien_guard import ContentChunk, Policy, hookimpl

TOKEN = re.compile(r"tok_[A-Za-z0-9]{20}")


class BlackOut(Policy):
    """`lookahead` is the longest match: so much text is held back, and the result never depends on the cuts."""

    lookahead = 24
    channels = frozenset({"content", "refusal"})

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk | None:
        spans = [(found.start(), found.end(), "█████") for found in TOKEN.finditer(chunk.text)]
        return chunk.edit(*spans) if spans else None
