"""From a decided piece to the change of the JSON: what streams and bodies share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthien_guard.errors import IllegalOutput, WireError
from luthien_guard.wire.chat.payloads import ENTRY, KEYS
from luthien_guard.wire.format import Path, Piece
from luthien_guard.wire.json_text import DELETE, Raw, loads, value_at

__all__ = ["put", "without_empty_lists"]


def put(piece: Piece, changes: dict[Path, Any]) -> None:
    """The new text of a piece: a string, or JSON where JSON stood. Raises IllegalOutput for what is no JSON."""
    if not piece.is_json:
        changes[piece.path] = piece.out
        return
    text = piece.out or "{}"
    try:
        value = loads(text.encode())
    except (WireError, UnicodeEncodeError):
        raise _illegal("arguments that are not JSON where JSON stood") from None
    if piece.value is None:
        changes[piece.path] = Raw(text)
    elif not isinstance(value, dict) or any(key in ENTRY or key in KEYS for key in value):
        raise _illegal("arguments that are not an object of the call's own members")
    else:  # they are members of the entry, between its id and its type
        for key in dict.fromkeys((*piece.value, *value)):
            changes[(*piece.path, key)] = value.get(key, DELETE)


def without_empty_lists(data: Any, changes: Mapping[Path, Any]) -> dict[Path, Any]:
    """A list of calls all of whose entries go, goes itself: clients take an empty one for a promise."""
    gone: dict[Path, int] = {}
    for path, value in changes.items():
        if value is DELETE and len(path) == _ENTRY and path[-2] == "tool_calls":
            gone[path[:-1]] = gone.get(path[:-1], 0) + 1
    empty = {path for path, count in gone.items() if count == len(value_at(data, path))}
    if not empty:
        return dict(changes)
    left = {path: value for path, value in changes.items() if path[: _ENTRY - 1] not in empty}
    return {**left, **dict.fromkeys(empty, DELETE)}


_ENTRY = len(("choices", 0, "delta", "tool_calls", 0))


def _illegal(what: str) -> IllegalOutput:
    return IllegalOutput(f"openai.chat: {what}", policy="", hook="")
