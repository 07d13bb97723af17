"""Limits that every deployment wants: how long an answer may be, and words that nobody may say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from luthien_guard.events import ContentChunk, ToolCall
from luthien_guard.exchange import ChatRequest, is_count
from luthien_guard.policies.escapes import meanings
from luthien_guard.policies.prompt import said
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
        self._sought = tuple(dict.fromkeys([*map(_folded, words), *map(_undotted, words)]))
        # each letter of a text is one letter or more of what it is folded to, so that no match is longer
        self.lookahead = max(map(len, self._sought), default=0)

    def listens(self, hook: str) -> bool:
        return bool(self.forbidden_words) or hook == "on_request_started"

    @hookimpl
    def on_request_started(self, request: ChatRequest) -> ChatRequest | Block | None:
        for is_json, text in said(request) if self.forbidden_words else ():
            if (found := self._find_in_json(text) if is_json else self._find(text)) is not None:
                return found
        return None if self.max_tokens is None else _clamped(request, self.max_tokens)

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> Block | None:
        return self._find(chunk.text)

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall, ctx: PolicyContext) -> Block | None:
        return self._find(call.name) or self._find_in_json(call.arguments)

    def _find(self, text: str) -> Block | None:
        """Case is folded in full ("ß" is "SS"), and "İ" read with its dot and without."""
        if self._holds(_folded(text)) or ("İ" in text and self._holds(_undotted(text))):
            return Block("a forbidden word", "⛔ Blocked: it holds a word that is not allowed here.")
        return None

    def _holds(self, folded: str) -> bool:
        # a pattern of all words takes longer, and so does `any` for a short text
        for word in self._sought:  # noqa: SIM110
            if word in folded:
                return True
        return False

    def _find_in_json(self, arguments: str) -> Block | None:
        """Escapes hide words in the arguments of a call: look at what they mean too."""
        try:
            return next(filter(None, map(self._find, meanings(arguments))), None)
        except ValueError as error:
            return Block(f"the arguments of a call cannot be read: {error}")


def _words(given: object) -> tuple[str, ...]:
    """Raises ValueError for anything but strings that are not empty."""
    if isinstance(given, str):
        given = (given,)
    words = tuple(given) if isinstance(given, Iterable) and not isinstance(given, Mapping) else (None,)
    found = tuple(word for word in words if isinstance(word, str) and word)
    if len(found) != len(words):
        raise ValueError(f"forbidden_words is {given!r}: a list of strings that are not empty")
    return found


def _folded(text: str) -> str:
    """Folding case leaves "ı" alone, which is an "I" to who reads over it."""
    return text.casefold().replace("ı", "i")


def _undotted(text: str) -> str:
    return _folded(text.replace("İ", "i"))


def _clamped(request: ChatRequest, limit: int) -> ChatRequest | None:
    """No spelling may ask for more, whichever the provider heeds, and for no model. Some take -1 for "without end", so that
    what is no count is replaced; a null names nothing."""
    places = [place for place, value in request.limits() if not is_count(value) or value > limit]
    keys = request.spellings("max_tokens")
    if all(request.raw.get(key) is None for key in keys):
        places.append(keys[:1])
    return request.replace(raw=_with(request.raw, places, limit)) if places else None


def _with(raw: Mapping[str, Any], places: Iterable[tuple[str | int, ...]], value: int) -> dict[str, Any]:
    """A copy with the value at these places; the parts that it changes are copied once each."""
    changed: dict[str, Any] = dict(raw)
    for key in {place[0] for place in places if len(place) > 1}:
        changed[str(key)] = deepcopy(raw[str(key)])
    for *way, last in places:
        around: Any = changed
        for key in way:
            around = around[key]
        around[last] = value
    return changed
