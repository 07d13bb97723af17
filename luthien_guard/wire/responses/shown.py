"""Strings that the format does not model. Each is a piece once: a response object repeats its request thrice."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b
from typing import Any, Final

from luthien_guard.wire.foreign import without_calls
from luthien_guard.wire.format import Path, Piece, PieceKind, is_identifier
from luthien_guard.wire.strings import strings_in

__all__ = ["Shown", "fields", "show"]

_SILENT = frozenset({int, float, bool, type(None)})
_MOST: Final = 4096  # of one item or response; what is forgotten is shown once more


class Shown:
    """What was shown already, as digests: an upstream may say new things as long as it likes."""

    __slots__ = ("_digests",)

    def __init__(self) -> None:
        self._digests: set[bytes] | frozenset[bytes] = frozenset()  # most items need no more

    def is_new(self, key: Any, found: list[tuple[Path, str]]) -> bool:
        """Whether these strings were not shown under this key yet; from now on they were."""
        said = repr((key, found)).encode()  # `repr` escapes half surrogate pairs
        digest = blake2b(said, digest_size=16).digest()
        if digest in self._digests:
            return False
        if isinstance(self._digests, frozenset) or len(self._digests) >= _MOST:
            self._digests = set()
        self._digests.add(digest)
        return True


def show(value: Any, path: Path, pieces: list[Piece], shown: Shown | None = None, key: Any = None) -> None:
    """What the format does not model: an OPAQUE piece for each string, unless the same ones were shown under the same key.
    It leaves without tool calls."""
    found = list(strings_in(value))
    if found and (shown is None or shown.is_new(path if key is None else key, found)):
        pieces.extend(Piece(PieceKind.OPAQUE, path=(*path, *place), text=text) for place, text in found)
    without_calls(value, path, pieces)


def fields(
    raw: dict[str, Any],
    path: Path,
    envelope: dict[str, Any],
    pieces: list[Piece],
    known: Collection[str] = (),
    shown: Shown | None = None,
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
            if key == "type":
                without_calls({key: value}, path, pieces)
        elif kind is dict and rule:
            fields(value, (*path, key), rule, pieces, (), shown, (*scope, key))
        elif kind not in _SILENT:
            show(value, (*path, key), pieces, shown, (*scope, key))
