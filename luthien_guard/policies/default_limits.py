"""Limits that every deployment wants: how long an answer may be, and words that nobody may say."""

from __future__ import annotations

import re
from collections.abc import Iterable

from luthien_guard.events import ContentChunk, ToolCall
from luthien_guard.exchange import ChatRequest
from luthien_guard.policy import Block, Policy, PolicyContext, hookimpl

__all__ = ["DefaultLimits"]


class DefaultLimits(Policy):
    """`max_tokens` clamps what a request asks for (and is put in where the request names none); `forbidden_words`
    are blocked, whatever their case, in prompts, in every channel of the answer and in tool calls."""

    def __init__(self, max_tokens: int | None = None, forbidden_words: Iterable[str] = ()) -> None:
        if max_tokens is not None and (isinstance(max_tokens, bool) or max_tokens < 1):
            raise ValueError(f"max_tokens is {max_tokens!r}: a whole number from 1")
        words = (forbidden_words,) if isinstance(forbidden_words, str) else tuple(forbidden_words)
        if not all(isinstance(word, str) and word for word in words):
            raise ValueError("forbidden_words are strings that are not empty")
        self.max_tokens = max_tokens
        self.forbidden_words = words
        # a match is at most this long once case is folded both ways ("ß" and "SS")
        self.lookahead = max((2 * len(word) for word in words), default=0)
        self._pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE) if words else None

    def listens(self, hook: str) -> bool:
        return bool(self.forbidden_words) or hook == "on_request_started"

    @hookimpl
    def on_request_started(self, request: ChatRequest) -> ChatRequest | Block | None:
        for each in request.texts():
            if (found := self._find(each.text)) is not None:
                return found
        if self.max_tokens is None or (request.max_tokens or self.max_tokens + 1) <= self.max_tokens:
            return None
        return request.replace(max_tokens=self.max_tokens)

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> Block | None:
        return self._find(chunk.text)

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> Block | None:
        return self._find(call.name) or self._find(call.arguments) or self._find_in(call.parsed)

    def _find(self, text: str) -> Block | None:
        if self._pattern is None or self._pattern.search(text) is None:
            return None
        return Block("a forbidden word", "⛔ Blocked: it holds a word that is not allowed here.")

    def _find_in(self, value: object) -> Block | None:
        """JSON escapes hide words in the arguments' text: look at the strings that they mean."""
        todo = [value]
        while todo:
            value = todo.pop()
            if isinstance(value, str) and (found := self._find(value)) is not None:
                return found
            if isinstance(value, dict):
                todo.extend([*value.keys(), *value.values()])
            elif isinstance(value, list):
                todo.extend(value)
        return None
