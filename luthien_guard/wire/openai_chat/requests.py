"""Requests of Chat Completions: read strictly, changed only where they differ, down to the single value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.errors import MalformedBody
from luthien_guard.exchange import ChatRequest
from luthien_guard.wire import requests
from luthien_guard.wire.format import Path
from luthien_guard.wire.json_text import DELETE, Raw, dumps, patch, slice_of

__all__ = ["read_request", "write_request"]

#: What the members that a guard relies on must be. `stream` above all: "true" and 1 mean one thing to one server and
#: another to the next.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "model": (str,),
    "messages": (list,),
    "stream": (bool,),
    "stream_options": (dict,),
    "tools": (list,),
    "functions": (list,),
    "max_tokens": (int,),
    "max_completion_tokens": (int,),
    "n": (int,),
}


def read_request(name: str, body: bytes) -> ChatRequest:
    """Raises MalformedBody or BodyTooLarge."""
    request = requests.read_request(name, body, _TYPES)
    for at, message in enumerate(request.messages):
        if not isinstance(message, dict):
            raise MalformedBody(f"messages[{at}] is {type(message).__name__}, not an object")
    return request


def write_request(body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
    """`body` with the values that differ between the two requests changed, and nothing else."""
    changes: dict[Path, Any] = {}
    text = body.decode()
    _compare(text, original.raw, request.raw, (), changes)
    return patch(text, changes).encode() if changes else body


def _compare(text: str, before: Any, after: Any, path: Path, changes: dict[Path, Any]) -> None:
    if before is after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        changes.update({(*path, key): DELETE for key in before if key not in after})
        for key, value in after.items():
            if key in before:
                _compare(text, before[key], value, (*path, key), changes)
            else:
                changes[(*path, key)] = value
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, value in enumerate(after):
            _compare(text, before[at], value, (*path, at), changes)
    elif isinstance(before, list) and isinstance(after, list):
        changes[path] = _respelled(text, before, after, path)
    elif type(before) is not type(after) or before != after:  # True is not 1, and 1 is not 1.0
        changes[path] = after


def _respelled(text: str, before: list[Any], after: list[Any], path: Path) -> Raw:
    """A list that grew or shrank: elements that were there before keep their spelling."""
    head = 0
    while head < min(len(before), len(after)) and _same(before[head], after[head]):
        head += 1
    tail = 0
    while tail < min(len(before), len(after)) - head and _same(before[-1 - tail], after[-1 - tail]):
        tail += 1
    made = [slice_of(text, (*path, at)) for at in range(head)]
    made += [dumps(value) for value in after[head : len(after) - tail]]
    made += [slice_of(text, (*path, at)) for at in range(len(before) - tail, len(before))]
    return Raw("[" + ",".join(made) + "]")


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
