"""Strings that the format does not model. Each is a piece once: a response object repeats its request thrice."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from luthien_guard.wire.format import Path, Piece, PieceKind, is_identifier
from luthien_guard.wire.strings import strings_in

__all__ = ["fields", "show"]

_SILENT = frozenset({int, float, bool, type(None)})


def show(
    value: Any, path: Path, pieces: list[Piece], shown: dict[Any, Any] | None = None, key: Any = None
) -> None:
    """An OPAQUE piece for each string, unless the same value was shown under the same key."""
    if shown is not None:
        key = path if key is None else key
        if key in shown and shown[key] == value:
            return
        shown[key] = value
    pieces.extend(Piece(PieceKind.OPAQUE, path=place, text=text) for place, text in strings_in(value, path))


def fields(
    raw: dict[str, Any],
    path: Path,
    envelope: dict[str, Any],
    pieces: list[Piece],
    known: Collection[str] = (),
    shown: dict[Any, Any] | None = None,
    scope: Path = (),
) -> None:
    """Every string of an object that is neither in `known` nor an identifier in its place in the envelope."""
    for key, value in raw.items():
        if key in known:
            continue
        rule = envelope.get(key)
        kind = type(value)
        if rule is None:
            if kind not in _SILENT or not is_identifier(key):
                show({key: value}, path, pieces, shown, (*scope, key))
        elif kind is str:
            if rule != "" or not is_identifier(value):
                show(value, (*path, key), pieces, shown, (*scope, key))
        elif kind is dict and rule:
            fields(value, (*path, key), rule, pieces, (), shown, (*scope, key))
        elif kind not in _SILENT:
            show(value, (*path, key), pieces, shown, (*scope, key))
