"""Indices as clients understand them, and places that leave otherwise than they came."""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.wire.format import Path, Piece, PieceKind
from luthien_guard.wire.strings import seen

__all__ = ["index_of", "leaves_as", "no_list", "strings_only"]

_STRING: Final = (str, type(None))
_LARGEST: Final = 2**31  # beyond 2**53 JavaScript takes two numbers for one; no answer has that many parts


def index_of(raw: Any) -> int | None:
    """JavaScript finds element 0 under 0.0 and under "0", too. None for what is no index."""
    if (type(raw) is float and raw.is_integer()) or (
        type(raw) is str and raw.isascii() and raw.isdecimal() and len(raw) < 10
    ):
        raw = int(raw)
    return raw if type(raw) is int and 0 <= raw < _LARGEST else None


def no_list(value: Any, path: Path, left: Any, pieces: list[Piece]) -> str:
    """Where a list should stand. An object leaves as `left`: JavaScript finds an element 0 in {"0": ...}, too. Gives what
    is wrong."""
    seen(value, path, pieces)
    if isinstance(value, dict):
        pieces.append(leaves_as(path, left))
    return f"{path[-1]!r} that is no list"


def strings_only(raw: dict[str, Any], key: str, path: Path, left: Any, pieces: list[Piece]) -> None:
    """Where a string should stand. Anything else leaves as `left`: JavaScript takes ["x"] for "x", too."""
    if type(raw.get(key)) not in _STRING:
        pieces.append(leaves_as((*path, key), left))


def leaves_as(path: Path, value: Any) -> Piece:
    """A place that leaves with this value, whatever policies say: clients would not agree on what came."""
    return Piece(PieceKind.DERIVED, path=path, value=("canonical", value))
