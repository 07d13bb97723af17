"""What texts say where they, or their items, are announced: it leaves as deltas. Clients that print deltas skip the
announcement; to them what the text goes on with would stand behind something else than it does for all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from luthien_guard.wire.format import Path, Piece

__all__ = ["Start", "deltas", "started"]


class Start(NamedTuple):
    """The `value` of a piece with the first words of a text: the type of the deltas that go on, and its part's index."""

    kind: str
    part: str
    at: int


def started(pieces: Sequence[Piece], changes: dict[Path, Any]) -> list[tuple[Start, str]]:
    """What the texts of an event begin with, which itself leaves without."""
    found: list[tuple[Start, str]] = []
    for piece in pieces:
        if type(piece.value) is Start:
            found.append((piece.value, changes.get(piece.path, piece.text)))
            changes[piece.path] = ""
    return found


def deltas(starts: Sequence[tuple[Start, str]], announced: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events that say this, after the one that has left with the data `announced`."""
    item = announced.get("item")
    id = item.get("id") if isinstance(item, dict) else announced.get("item_id")
    where = {"item_id": id, "output_index": announced.get("output_index")}
    where = {name: value for name, value in where.items() if value is not None}
    for start, text in starts:
        if text:
            logprobs: dict[str, Any] = {"logprobs": []} if start.kind == "response.output_text.delta" else {}
            yield {"type": start.kind, **where, start.part: start.at, "delta": text, **logprobs}
