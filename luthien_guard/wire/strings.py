"""Every string of a JSON value, wherever it stands: for what a wire format does not model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthien_guard.wire.foreign import without_calls
from luthien_guard.wire.format import Path, Piece, PieceKind, is_identifier

__all__ = ["opaque", "seen", "strings_in"]


def strings_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """(path, text) of each string and of each object key that does not look like an identifier. No recursion."""
    todo: list[tuple[Any, Path]] = [(value, path)]
    while todo:
        value, path = todo.pop()
        if isinstance(value, str):
            if value:
                yield path, value
        elif isinstance(value, dict):
            for key in value:
                if not is_identifier(key):
                    yield (*path, key), key
            todo.extend((inner, (*path, key)) for key, inner in reversed(value.items()))
        elif isinstance(value, list):
            todo.extend((inner, (*path, at)) for at, inner in reversed(list(enumerate(value))))


def opaque(value: Any, path: Path, pieces: list[Piece], *, owner: Path = ()) -> None:
    """What the format does not model: an OPAQUE piece for each string in `value`, which leaves without tool calls."""
    seen(value, path, pieces, owner=owner)
    without_calls(value, path, pieces)


def seen(value: Any, path: Path, pieces: list[Piece], *, owner: Path = ()) -> None:
    """The strings of a value of which it is known how it leaves."""
    for place, text in strings_in(value, path):
        pieces.append(Piece(PieceKind.OPAQUE, path=place, text=text, owner=owner))
