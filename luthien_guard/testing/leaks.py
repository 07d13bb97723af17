"""Looks for a marker in everything that left, however it is escaped or cut into pieces."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from luthien_guard.testing.reading import read
from luthien_guard.testing.script import WIRE_FORMATS
from luthien_guard.testing.transcript import Transcript, frames_of, loads

__all__ = ["find_leaks"]

_DEPTH: Final = 4  # JSON inside JSON inside JSON: arguments of a call that quotes another, in a body
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHORT: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def find_leaks(body: bytes, marker: str, wire_format: str | None = None) -> list[str]:
    """Where `marker` can be read: in the bytes, in any string or key of the JSON, in strings that are JSON themselves (or
    would be, for another parser), in the pieces of one field joined over the frames of a stream, or in what a client of
    `wire_format` (None: of any) makes of it all. Empty when it did not leak."""
    found = ["the bytes"] if marker.encode() in body else []
    values, stream = _values(body)
    joined: dict[str, list[str]] = defaultdict(list)
    for value in values:
        for place, text in _strings(value):
            joined[place].append(text)
            if _says(text, marker):
                found.append(place)
    for place, texts in joined.items():
        if len(texts) > 1 and place not in found and _says("".join(texts), marker):
            found.append(f"{place}, joined over the stream")
    whole = body.decode("utf-8", "replace")
    if not found and _says(whole, marker):  # what the parser does not show: keys said twice
        found.append("the bytes, escaped")
    return found or [
        f"what a client of {each} reads"
        for each in (WIRE_FORMATS if wire_format is None else (wire_format,))
        if any(_says(text, marker) for text in _read(read(body, each, stream=stream)))
    ]


def _values(body: bytes) -> tuple[list[Any], bool]:
    """What is parsed, and whether it is a stream."""
    try:
        return [loads(body.decode())], False
    except (ValueError, RecursionError):
        return [frame.data for frame in frames_of(body)[0]], True


def _says(text: str, marker: str) -> bool:
    for _ in range(_DEPTH):
        if marker in text:
            return True
        if "\\" not in text:
            return False
        text = _undone(text)
    return marker in text


def _undone(text: str) -> str:
    """Escapes undone once, in whatever they stand: a parser that is not ours may read what ours does not."""
    text = _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _SHORT.get(found[2], found[2]), text
    )
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _read(transcript: Transcript) -> Iterator[str]:
    yield from (transcript.text, transcript.reasoning, transcript.refusal, transcript.heard)
    yield from transcript.choices.values()
    for call in transcript.tool_calls:
        yield from (call.name, call.arguments)


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
