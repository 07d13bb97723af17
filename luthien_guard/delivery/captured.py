"""Captured pieces of a response hold a secret that no piece holds alone: a key that streams token by token."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

__all__ = ["without_split_secrets"]

_DEPTH: Final = 32
Details = Mapping[str, Any]


def without_split_secrets(details: Details, redacted: Callable[[str], str]) -> Details:
    """The details of `response.chunks`; without its text where a secret stands across the frames."""
    heard: dict[tuple[str | int, ...], list[str]] = {}
    for path, text in _strings(str(details.get("body_text", ""))):
        heard.setdefault(path, []).append(text)
    for parts in heard.values():
        whole = "".join(parts)
        if len(parts) > 1 and redacted(whole) != whole:
            kept = {name: value for name, value in details.items() if name != "body_text"}
            return {**kept, "body_text": "", "degraded": True, "reason": "a secret stands across its pieces"}
    return details


def _strings(body: str) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(where in the JSON of its frame, text) of every string of every frame, in order."""
    for line in body.splitlines():
        if line.startswith("data:"):
            try:
                yield from _leaves(json.loads(line[5:]), ())
            except (ValueError, RecursionError):
                continue


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif len(path) < _DEPTH and isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif len(path) < _DEPTH and isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _leaves(inner, (*path, at))
