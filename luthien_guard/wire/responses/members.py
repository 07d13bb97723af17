"""Members by which some clients take an event for something else than others do, or for nothing: they leave without."""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.wire.format import Piece
from luthien_guard.wire.indices import leaves_as
from luthien_guard.wire.json_text import DELETE

__all__ = ["BESIDES_AN_ITEM", "OF_CHAT", "strict", "strict_logprobs", "without"]

#: litellm reads an event with these as a chunk of a chat completion, calls and all.
OF_CHAT: Final = frozenset({"object", "choices"})
#: litellm takes the first of the event that announces a call, where the call itself has none; Codex skips an item with
#: the second, unless it is a text.
BESIDES_AN_ITEM: Final = frozenset({"arguments", "delta"})
#: Codex reads all events into one type with these members (and `call_id`), and skips those that do not fit.
_NUMBERS: Final = ("content_index", "summary_index")
_LARGEST: Final = 2**63


def without(data: dict[str, Any], members: frozenset[str], pieces: list[Piece]) -> dict[str, Any]:
    """The event without these members."""
    found = members & data.keys()
    pieces.extend(leaves_as((key,), DELETE) for key in sorted(found))
    return {key: value for key, value in data.items() if key not in found} if found else data


def strict(data: dict[str, Any], pieces: list[Piece]) -> None:
    """Every member that is something else than it is in any event goes. What follows may say better."""
    for key in _NUMBERS:
        number = data.get(key)
        if number is not None and (type(number) is not int or abs(number) >= _LARGEST):
            pieces.append(leaves_as((key,), DELETE))
    if type(data.get("call_id")) not in (str, type(None)):
        pieces.append(leaves_as(("call_id",), DELETE))


def strict_logprobs(data: dict[str, Any], pieces: list[Piece]) -> None:
    """Vercel's client skips a delta with any that are none."""
    value = data.get("logprobs")
    if value is not None and not (isinstance(value, list) and all(isinstance(each, dict) for each in value)):
        pieces.append(leaves_as(("logprobs",), []))
