"""Requests of every wire format: read strictly, changed only where a policy changed them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthien_guard.asked import misspelt
from luthien_guard.errors import MalformedBody
from luthien_guard.exchange import ChatRequest
from luthien_guard.wire.format import Path
from luthien_guard.wire.json_text import DELETE, loads, patch

__all__ = ["read_request", "same", "write_request"]


def read_request(wire_format: str, body: bytes, types: Mapping[str, tuple[type, ...]]) -> ChatRequest:
    """Parse a request. `types` says what the keys that the guard relies on must be, where they are present. Raises
    MalformedBody or BodyTooLarge."""
    raw = loads(body)
    if not isinstance(raw, dict):
        raise MalformedBody("the request is not a JSON object")
    if (misread := misspelt(raw)) is not None:
        raise MalformedBody(f"the key {misread!r} is read by some parsers in another case: write it in that")
    for key, value in raw.items():
        if key in types and type(value) not in types[key] and value is not None:
            names = " or ".join(each.__name__ for each in types[key])
            raise MalformedBody(f"{key} is {type(value).__name__}, not {names}")
    return ChatRequest(wire_format, raw)


def write_request(body: bytes, original: ChatRequest, request: ChatRequest) -> bytes:
    """`body` with only the top-level values changed that differ between the two requests."""
    before, after = original.raw, request.raw
    changes: dict[Path, Any] = {(key,): DELETE for key in before if key not in after}
    for key, value in after.items():
        if key not in before or not same(before[key], value):
            changes[(key,)] = value
    return patch(body.decode(), changes).encode() if changes else body


def same(a: Any, b: Any) -> bool:
    """Equal as JSON: True is not 1, and 1 is not 1.0, at any depth."""
    return a is b or (a == b and _are_typed_alike(a, b))


def _are_typed_alike(a: Any, b: Any) -> bool:
    """Of what Python takes for equal."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return all(_are_typed_alike(value, b[key]) for key, value in a.items())
    return not isinstance(a, list) or all(map(_are_typed_alike, a, b))
