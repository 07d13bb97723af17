"""Captured pieces of a response hold a secret that no piece holds alone: a key that streams token by token."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final

__all__ = ["without_split_secrets"]

_DEPTH: Final = 64  # parts of a path: about 32 levels
#: What says of an object to which text its strings belong, in the wire formats.
_NAMES: Final = frozenset({"index", "item_id", "output_index", "content_index", "summary_index"})
#: Of WHATWG's event streams; other characters that Python takes for line ends are text.
_LINE: Final = re.compile(r"\r\n|\n|\r")
Details = dict[str, Any]
Path = tuple[object, ...]
Heard = defaultdict[Path, list[str]]


def without_split_secrets(details: Details, redacted: Callable[[str], str]) -> Details:
    """The details of `response.chunks`; without its text where a secret stands across its strings."""
    heard: Heard = defaultdict(list)
    for value in _values(str(details.get("body_text", ""))):
        _hear(value, (), ("anywhere",), heard)
    if any(_is_split(parts, redacted) for parts in heard.values()):
        kept = {name: value for name, value in details.items() if name != "body_text"}
        return {**kept, "body_text": "", "degraded": True, "reason": "a secret stands across its pieces"}
    return details


def _is_split(parts: list[str], redacted: Callable[[str], str]) -> bool:
    """A secret stands in them together, and not in each alone."""
    whole = "".join(parts)
    if len(parts) == 1 or (safe := redacted(whole)) == whole:
        return False
    return safe != "".join(map(redacted, parts))


def _values(body: str) -> Iterator[Any]:
    """The JSON of the body or, where it is a stream, the data of each event in order."""
    try:
        yield json.loads(body)
    except (ValueError, RecursionError):
        yield from map(_read, _events(body))


def _read(data: str) -> Any:
    """What is no JSON is a text, and so is a number, which may be a part of one."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return found if isinstance(found, (dict, list, str)) else data


def _events(body: str) -> Iterator[str]:
    """The data of each."""
    data: list[str] = []
    for line in (*_LINE.split(body), ""):
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []


def _hear(value: Any, path: Path, anywhere: Path, heard: Heard) -> None:
    """Put every string to the text that it belongs to: by the names above it and the numbers of what it is a part of.
    `anywhere`: the same without places in lists, for a list of tokens is a text."""
    if isinstance(value, str):
        heard[path].append(value)
        heard[anywhere].append(value)
    elif len(path) >= _DEPTH:
        return
    elif isinstance(value, dict):
        if not _NAMES.isdisjoint(value):
            numbers = tuple([str(value.get(name)) for name in _NAMES])
            path, anywhere = (*path, numbers), (*anywhere, numbers)
        for key, inner in value.items():
            if isinstance(inner, (str, dict, list)):
                _hear(inner, (*path, key), (*anywhere, key), heard)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            _hear(inner, (*path, at), anywhere, heard)
