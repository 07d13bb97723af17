"""Which fields of a request did not survive its conversion: by comparing it with what was really sent, not by a table of
what a converter promises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["dropped_fields"]

#: Fields that say nothing a provider could lose: they are the conversion's own business.
_OWN: Final = frozenset({"model", "stream", "stream_options", "type", "role", "object"})
#: What a field is called elsewhere, where its value alone (a boolean, a small word) does not show that it arrived.
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "parallel_tool_calls": ("disable_parallel_tool_use",),
    "disable_parallel_tool_use": ("parallel_tool_calls",),
    "response_format": ("output_format", "output_config", "text", "json_tool_call"),
    "text": ("response_format", "output_format", "output_config"),
    "reasoning_effort": ("thinking", "reasoning", "effort"),
    "reasoning": ("thinking", "reasoning_effort"),
    "thinking": ("reasoning", "reasoning_effort"),
    "stop": ("stop_sequences",),
    "stop_sequences": ("stop",),
    "user": ("user_id",),
    "input_schema": ("parameters", "schema"),
    "parameters": ("input_schema", "schema"),
    "system": ("instructions",),
}
#: Names that are in every request somewhere: only the value shows whether the field arrived.
_EVERYWHERE: Final = frozenset(
    {
        "arguments",
        "content",
        "data",
        "description",
        "id",
        "input",
        "name",
        "output",
        "properties",
        "text",
        "url",
        "value",
    }
)
_DATA_URL: Final = re.compile(r"data:[\w/+.-]*;base64,")
_DEPTH: Final = 24


class _Sent:
    """What is in a request, however it is nested."""

    def __init__(self, body: Any) -> None:
        self.names: set[str] = set()
        self.values: set[Any] = set()
        self._add(body, 0)
        self._text = "\n".join(each for each in self.values if isinstance(each, str))

    def has(self, key: str) -> bool:
        if key in _EVERYWHERE:
            return False
        return key in self.names or any(alias in self.names for alias in _ALIASES.get(key, ()))

    def shows(self, value: Any) -> bool:
        """A string or a number is known by itself; a boolean is everywhere."""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            return False
        if value in self.values:
            return True
        return isinstance(value, str) and len(value) > 3 and _DATA_URL.sub("", value, count=1) in self._text

    def _add(self, value: Any, depth: int) -> None:
        if depth > _DEPTH:
            return
        if isinstance(value, Mapping):
            self.names.update(map(str, value))
            for item in value.values():
                self._add(item, depth + 1)
        elif isinstance(value, (list, tuple)):
            for item in value:
                self._add(item, depth + 1)
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
            self.values.add(value)
            if isinstance(value, str) and value[:1] in ("{", "["):
                self._add(_parsed(value), depth + 1)


def dropped_fields(given: Mapping[str, Any], sent: Any) -> list[str]:
    """The names of fields of `given` of which neither the name nor the value is anywhere in `sent`, sorted. Nested ones
    as "messages.cache_control"; where a field is gone, what is in it is not named again."""
    known = _Sent(sent)
    found: set[str] = set()
    for key, value in given.items():
        found.update(_compared(key, key, value, known, 0)[0])
    return sorted(found)


def _compared(path: str, key: str, value: Any, sent: _Sent, depth: int) -> tuple[list[str], bool]:
    """(fields that are lost, whether anything of this one arrived)."""
    if key in _OWN or value is None or value in ([], {}, "") or depth > _DEPTH:
        return [], False
    if isinstance(value, str) and value[:1] == "{":
        value = _parsed(value) or value  # arguments: a string here, an object there
    lost: list[str] = []
    arrived = sent.has(key) or sent.shows(value)
    for child, below in _children(value):
        gone, came = _compared(_below(path, child), child or key, below, sent, depth + 1)
        lost += gone
        arrived = arrived or came
    return (lost, True) if arrived else ([path], False)


def _below(path: str, child: str) -> str:
    """Positions in lists are no part of a field's name, and two levels say where to look."""
    return f"{path.split('.', 1)[0]}.{child}" if child else path


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from (("", item) for item in value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
