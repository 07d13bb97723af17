"""What records say, made fit for attributes. The client and the upstream may be hostile: a name is a name only while
it looks like one, a count is a count only while it is a small number; anything else is content and stays here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import jiter

from luthien_guard.sinks.opentelemetry import semconv

__all__ = [
    "Vocabulary",
    "count",
    "error_name",
    "label",
    "name_of",
    "parameters",
    "parsed",
    "seconds",
    "text",
    "usage_of",
]

Attributes = dict[str, Any]

OTHER: Final = "_OTHER"  # the conventions' own word for a value that is none of the known
_LABEL: Final = re.compile(r"[A-Za-z0-9_.:/@-]{1,128}")  # as the guard tells identifiers from text
_EXCEPTION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")
_LARGEST: Final = 2**53
_PARSED: Final = 65_536  # characters of a request that are parsed for its parameters: about 0.1 ms


def label(value: Any) -> str | None:
    """The value, if it is a string that looks like an identifier."""
    return value if isinstance(value, str) and _LABEL.fullmatch(value) else None


def name_of(value: Any) -> str | None:
    """The same for what must have some name: "_OTHER" stands for a string that is none; None for no string."""
    return (label(value) or OTHER) if isinstance(value, str) and value else None


def error_name(text: Any) -> str:
    """The type in front of a message ("KeyError: 'x'"); the message itself may quote what the policy saw."""
    found = _EXCEPTION.match(text) if isinstance(text, str) else None
    return found[0] if found is not None and text[found.end() : found.end() + 1] in ("", ":") else OTHER


def text(value: str, longest: int) -> str:
    """At most so much of it, without lone surrogates: no exporter could encode them."""
    return value[:longest].encode("utf-8", "replace").decode()


def count(value: Any) -> int | None:
    """A whole number that somebody can have counted."""
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST
    return value if fits else None


def seconds(value: Any) -> float | None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _LARGEST
    return float(value) if fits else None


def parsed(body: Any, *, limit: int = _PARSED) -> Mapping[str, Any]:
    """The request's JSON, if it is an object and not too long to be parsed beside traffic."""
    if not isinstance(body, str) or len(body) > limit:
        return {}
    try:
        value = jiter.from_json(body.encode("utf-8", "replace"), allow_inf_nan=False)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def parameters(request: Mapping[str, Any]) -> Attributes:
    """The numbers that steer the model."""
    found: Attributes = {}
    for key, attribute in semconv.PARAMETERS.items():
        value = request.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST:
            found[attribute] = value
    if found.get(semconv.CHOICE_COUNT) == 1:  # "if != 1", say the conventions
        del found[semconv.CHOICE_COUNT]
    return {key: value for key, value in found.items() if math.isfinite(value)}


def usage_of(usage: Any, wire_format: str, names: semconv.Conventions) -> Attributes:
    """Tokens under the conventions' names; the input's total includes what came out of a cache."""
    if not isinstance(usage, Mapping):
        return {}
    into, out = _details(usage, "prompt", "input"), _details(usage, "completion", "output")
    read = _first(usage.get("cache_read_input_tokens"), into.get("cached_tokens"))
    written = _first(usage.get("cache_creation_input_tokens"), into.get("cache_write_tokens"))
    total = _first(usage.get("prompt_tokens"), usage.get("input_tokens"))
    if total is not None and wire_format == "anthropic.messages":  # counts only what no cache held
        total += (read or 0) + (written or 0)
    found = {
        semconv.INPUT_TOKENS: total,
        semconv.OUTPUT_TOKENS: _first(usage.get("completion_tokens"), usage.get("output_tokens")),
        semconv.CACHE_READ_TOKENS: read,
        names.cache_write_tokens: written,
        semconv.REASONING_TOKENS: _first(out.get("reasoning_tokens")),
    }
    return {key: value for key, value in found.items() if value is not None}


def _details(usage: Mapping[str, Any], *kinds: str) -> Mapping[str, Any]:
    found = (usage.get(f"{kind}_tokens_details") for kind in kinds)
    return next((each for each in found if isinstance(each, Mapping)), {})


def _first(*values: Any) -> int | None:
    return next((each for each in map(count, values) if each is not None), None)


class Vocabulary:
    """The distinct values of one dimension of a metric. A client that invents a name for each request must not make a
    time series of each: past `size` of them the rest are "_OTHER"."""

    def __init__(self, size: int = 200) -> None:
        self._size = size
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value not in self._known:
            if len(self._known) >= self._size:
                return OTHER
            self._known.add(value)
        return value
