"""A policy of your own: secrets of a known shape are blacked out, wherever the stream was cut."""

from __future__ import annotations

import re

from luthien_guard import Block, ContentChunk, Policy, hookimpl

TOKEN = re.compile(r"tok_[A-Za-z0-9]{20}")


class BlackOut(Policy):
    """`lookahead` is the longest match: so much text is held back, and the result never depends on the cuts. Text that
    nobody may rewrite (signed reasoning, fields that no wire format knows) is blocked instead. Tool calls are not text:
    a policy that looks into them has `on_tool_call_completed`, too."""

    lookahead = 24

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk | Block | None:
        spans = [(found.start(), found.end(), "█████") for found in TOKEN.finditer(chunk.text)]
        if not spans:
            return None
        return chunk.edit(*spans) if chunk.writable else Block("a token where nothing can be rewritten")
