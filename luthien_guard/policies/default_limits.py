"""Limits that every deployment wants: how long an answer may be, and words that nobody may say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from luthien_guard.events import ContentChunk, ToolCall
from luthien_guard.exchange import ChatRequest, is_count
from luthien_guard.policies.escapes import meanings
from luthien_guard.policy import Block, Policy, PolicyContext, hookimpl

__all__ = ["DefaultLimits"]


class DefaultLimits(Policy):
    """`max_tokens` clamps what a request asks for (and is put in where the request names none); `forbidden_words`
    are blocked, whatever their case, in prompts, in every channel of the answer and in tool calls."""

    def __init__(self, max_tokens: int | None = None, forbidden_words: Iterable[str] = ()) -> None:
        if max_tokens is not None and not is_count(max_tokens):
            raise ValueError(f"max_tokens is {max_tokens!r}: a whole number from 1")
        words = _words(forbidden_words)
        self.max_tokens = max_tokens
        self.forbidden_words = words
        # A letter stands for three at most once case is folded in full ("ΐ"), so that no match is longer than this.
        self.lookahead = max((max(2 * len(word), len(word.casefold())) for word in words), default=0)
        self._pattern = _pattern(words)
        self._folded = _pattern(tuple(word.casefold() for word in words))

    def listens(self, hook: str) -> bool:
        return bool(self.forbidden_words) or hook == "on_request_started"

    @hookimpl
    def on_request_started(self, request: ChatRequest) -> ChatRequest | Block | None:
        for is_call, text in _said(request) if self.forbidden_words else ():
            if (found := self._find_in_call(text) if is_call else self._find(text)) is not None:
                return found
        return None if self.max_tokens is None else _clamped(request, self.max_tokens)

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> Block | None:
        return self._find(chunk.text)

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> Block | None:
        return self._find(call.name) or self._find_in_call(call.arguments)

    def _find(self, text: str) -> Block | None:
        """Both ways: folding in full knows that "ß" is "SS", the pattern's own that "ı" is an "I"."""
        if self._pattern is None or self._folded is None:
            return None
        if self._pattern.search(text) is None and self._folded.search(text.casefold()) is None:
            return None
        return Block("a forbidden word", "⛔ Blocked: it holds a word that is not allowed here.")

    def _find_in_call(self, arguments: str) -> Block | None:
        """Escapes hide words in the arguments of a call: look at what they mean too."""
        try:
            return next(filter(None, map(self._find, meanings(arguments))), None)
        except ValueError as error:
            return Block(f"the arguments of a call cannot be read: {error}")


def _said(request: ChatRequest) -> Iterator[tuple[bool, str]]:
    """(whether it is of a tool call, text). Parts of one message that follow each other are one text: so models read
    them."""
    parts: defaultdict[tuple[str | int, ...], list[tuple[int, str]]] = defaultdict(list)
    for each in request.texts():
        *place, at, key = ("", *each.path)
        if "arguments" in each.path or "input" in each.path[1:]:
            yield True, each.text
        elif isinstance(at, int) and key == "text":
            parts[*place].append((at, each.text))
        else:
            yield False, each.text
    for found in parts.values():
        yield from ((False, text) for text in _joined(found))


def _joined(parts: Iterable[tuple[int, str]]) -> Iterator[str]:
    """The texts of (place in the list, text), those next to each other in one."""
    for _, run in groupby(enumerate(parts), lambda each: each[1][0] - each[0]):
        yield "".join(text for _, (_, text) in run)


def _words(given: object) -> tuple[str, ...]:
    """Raises ValueError for anything but strings that are not empty."""
    if isinstance(given, str):
        given = (given,)
    words = tuple(given) if isinstance(given, Iterable) and not isinstance(given, Mapping) else (None,)
    found = tuple(word for word in words if isinstance(word, str) and word)
    if len(found) != len(words):
        raise ValueError(f"forbidden_words is {given!r}: a list of strings that are not empty")
    return found


def _pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, words)), re.IGNORECASE) if words else None


def _clamped(request: ChatRequest, limit: int) -> ChatRequest | None:
    """No spelling may ask for more, whichever the provider heeds. Some take -1 for "without end", so that what is no
    count is replaced; a null names nothing."""
    named = {key: request.raw.get(key) for key in request.spellings("max_tokens")}
    given = {key: value for key, value in named.items() if value is not None}
    asked = given or dict.fromkeys(request.spellings("max_tokens")[:1])
    changes = {key: limit for key, value in asked.items() if not is_count(value) or value > limit}
    return request.replace(raw={**request.raw, **changes}) if changes else None
