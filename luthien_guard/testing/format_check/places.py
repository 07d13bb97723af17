"""The places of strings in JSON, and a chunk with another text in one of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from luthien_guard.events import Chunk

__all__ = ["rebuilt", "short", "string_paths", "with_text"]


def string_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, str):
        yield path
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from string_paths(item, (*path, at))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from string_paths(item, (*path, key))


def with_text(value: Any, path: tuple[Any, ...], text: str) -> Any:
    if not path:
        return text
    changed = copy.deepcopy(value)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = text
    return changed


def rebuilt(chunk: Chunk, data: Any) -> Chunk:
    raw = json.dumps(data, ensure_ascii=False).encode()
    name = f"event: {chunk.event}\n".encode() if chunk.event else b""
    return chunk.replace(data=data, raw=raw if chunk.kind == "body" else name + b"data: " + raw + b"\n\n")


def short(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)[:120]
