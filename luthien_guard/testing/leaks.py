"""Looks for a marker in everything that left, however it is escaped or cut into pieces."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from luthien_guard.testing.transcript import frames_of

__all__ = ["find_leaks"]

_DEPTH = 3  # JSON inside JSON inside JSON: arguments of a call that quotes another


def find_leaks(body: bytes, marker: str) -> list[str]:
    """Where `marker` can be read: in the bytes, in any string or key of the JSON, in strings that are JSON themselves,
    or in the pieces of one field joined over the frames of a stream. Empty when it did not leak."""
    found = ["the bytes"] if marker.encode() in body else []
    values = _values(body)
    joined: dict[str, list[str]] = defaultdict(list)
    for value in values:
        for place, text in _strings(value):
            joined[place].append(text)
            if _says(text, marker):
                found.append(place)
    for place, texts in joined.items():
        if len(texts) > 1 and place not in found and _says("".join(texts), marker):
            found.append(f"{place}, joined over the stream")
    return found


def _values(body: bytes) -> list[Any]:
    try:
        return [json.loads(body)]
    except ValueError:
        return [frame.data for frame in frames_of(body)[0]]


def _says(text: str, marker: str, depth: int = _DEPTH) -> bool:
    if marker in text:
        return True
    if depth == 0 or not text.lstrip().startswith(("{", "[", '"')):
        return False
    try:
        value = json.loads(text)
    except ValueError:
        # arguments that were cut: undo the escapes one by one
        return marker in text.replace('\\"', '"').replace("\\\\", "\\").replace("\\n", "\n").replace(
            "\\/", "/"
        )
    return any(_says(each, marker, depth - 1) for _, each in _strings(value))


def _strings(value: Any) -> Iterator[tuple[str, str]]:
    """Every string and key with its place; places of one stream's deltas are equal, so that they can be joined."""
    todo: list[tuple[str, Any]] = [(_kind(value), value)]
    while todo:
        place, each = todo.pop()
        if isinstance(each, str):
            yield place, each
        elif isinstance(each, list):
            todo += [(f"{place}[{_index(item, at)}]", item) for at, item in reversed(list(enumerate(each)))]
        elif isinstance(each, dict):
            yield from ((f"{place} key", key) for key in each)
            todo += [(f"{place}.{key}", item) for key, item in reversed(list(each.items()))]


def _kind(value: Any) -> str:
    """Frames of one type and block belong together."""
    if not isinstance(value, dict):
        return ""
    at = value.get("output_index", value.get("index", ""))
    return f"{value.get('type', '')}{at}"


def _index(item: Any, at: int) -> Any:
    """What a delta says of its own place counts, not where it stands in its frame."""
    return item.get("index", at) if isinstance(item, dict) else at
