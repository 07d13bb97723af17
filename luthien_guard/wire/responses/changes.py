"""From decisions to changes of the JSON: the part that streams and bodies share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.json_text import DELETE, Raw

__all__ = ["changes_of"]


def changes_of(pieces: Sequence[Piece], stand_in: Callable[[Block], dict[str, Any] | None]) -> dict[Path, Any]:
    """The changes of one chunk. A removed call that is an element of an output list is replaced there by what
    `stand_in` gives, or goes."""
    changes: dict[Path, Any] = {}
    whole: dict[Path, Any] = {}
    for piece in pieces:
        block = piece.block
        if block is None:
            continue
        if block.removed:
            if piece.owner:
                item = stand_in(block)
                whole[piece.owner] = DELETE if item is None else item
        elif piece.kind is PieceKind.DERIVED:
            if piece.value == "logprobs" and block.changed:
                changes[piece.path] = []
            elif piece.value == "name" and block.new_name is not None:
                changes[piece.path] = block.new_name
        elif piece.out is not None and piece.path:
            changes[piece.path] = Raw(piece.out or "{}") if piece.is_json else piece.out
    if not whole:
        return changes
    inside = {path for path in changes for owner in whole if path[: len(owner)] == owner}
    return {**{path: value for path, value in changes.items() if path not in inside}, **whole}
