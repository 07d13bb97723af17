"""What a request tells the model: the texts of its prompt and of its tools, and the JSON of calls and schemas."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final, TypeAlias

from luthien_guard.exchange import ChatRequest

__all__ = ["said"]

_Place: TypeAlias = tuple[str | int, ...]

#: Keys at the top that no model reads: who asks, what for, and how the answer is made. Any other is part of the prompt.
_UNREAD: Final = frozenset({
    "model", "user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier",
    "previous_response_id", "conversation", "container", "include", "reasoning", "reasoning_effort", "thinking", "verbosity",
    "tool_choice", "function_call", "truncation", "modalities", "audio", "stop", "stop_sequences", "stream_options", "betas",
    "anthropic_version", "anthropic_beta", "speed", "inference_geo",
})  # fmt: skip
#: Below these keys stands any JSON: what a call was given, examples of it, the values that a schema allows.
_JSON: Final = frozenset(
    {"input", "arguments", "action", "operation", "input_examples", "examples", "default", "const", "enum"}
)
#: The keys of these objects are names that somebody chose.
_NAMING: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "variables"})
#: Words of the wire formats, not of whoever writes the prompt.
_ROLES: Final = frozenset({"user", "assistant", "system", "developer", "tool", "function"})
_KINDS: Final = frozenset(
    {"function", "custom", "object", "array", "string", "number", "integer", "boolean", "null"}
)
_NAME: Final = re.compile(r"[A-Za-z0-9_.:/@$-]{1,128}")


def said(request: ChatRequest) -> Iterator[tuple[bool, str]]:
    """(whether it is JSON, text). Text parts of one message that follow each other are one text: so models read them. The
    input of a call is one text of JSON, whether it came as an object or as a string: with its keys and numbers."""
    parts: defaultdict[_Place, list[tuple[int, str]]] = defaultdict(list)
    for place, text in _strings({key: value for key, value in request.raw.items() if key not in _UNREAD}):
        *around, at, key = ("", *place)
        if isinstance(at, int) and key == "text":
            parts[*around].append((at, text))
        else:
            yield _is_json(place), text
    for found in parts.values():
        yield from ((False, text) for text in _joined(found))


def _strings(value: Any) -> Iterator[tuple[_Place, str]]:
    """(place, text) without recursion: depth is bounded by the parser, but the stack should not depend on that."""
    todo: list[tuple[Any, _Place]] = [(value, ())]
    while todo:
        value, place = todo.pop()
        if isinstance(value, str):
            if not _is_word_of_the_format(place, value):
                yield place, value
        elif _is_json(place):
            yield place, json.dumps(value, ensure_ascii=False, default=str)
        elif isinstance(value, dict):
            yield from (((*place, key), key) for key in value if _is_chosen(place, key))
            todo.extend((inner, (*place, key)) for key, inner in reversed(value.items()))
        elif isinstance(value, list):
            todo.extend((inner, (*place, at)) for at, inner in reversed(list(enumerate(value))))


def _is_json(place: _Place) -> bool:
    return len(place) > 1 and place[-1] in _JSON


def _is_chosen(place: _Place, key: str) -> bool:
    """What looks like no name is a text wherever it stands."""
    return any(part in _NAMING for part in place[-1:]) or _NAME.fullmatch(key) is None


def _is_word_of_the_format(place: _Place, text: str) -> bool:
    """Else a word such as "ass" would refuse whoever says "assistant"."""
    if place[-1] == "role":
        return text in _ROLES
    # what a tool's types are called is shown to the model
    return place[-1] == "type" and (
        text in _KINDS or (place[0] != "tools" and _NAME.fullmatch(text) is not None)
    )


def _joined(parts: Iterable[tuple[int, str]]) -> Iterator[str]:
    """The texts of (place in the list, text), those next to each other in one."""
    for _, run in groupby(enumerate(parts), lambda each: each[1][0] - each[0]):
        yield "".join(text for _, (_, text) in run)
