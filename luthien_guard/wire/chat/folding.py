"""Several entries of one call in one chunk, made one: clients do not agree on whether the second belongs to the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthien_guard.wire.chat.payloads import KEYS
from luthien_guard.wire.format import Path, Piece
from luthien_guard.wire.indices import leaves_as
from luthien_guard.wire.json_text import DELETE

__all__ = ["folded"]


def folded(
    calls: Sequence[Any], places: Sequence[int], path: Path, pieces: list[Piece]
) -> tuple[int, dict[str, Any]]:
    """(where, what) the one entry is that leaves for those at `places`: the first that has a payload, so that there is
    one to change."""
    home = next((at for at in places if any(type(calls[at].get(key)) is dict for key in KEYS)), places[0])
    entry: dict[str, Any] = {**calls[home]}
    more: dict[str, list[dict[str, Any]]] = {}  # of each payload
    for at in places:
        if at != home:
            pieces.append(leaves_as((*path, at), DELETE))
            _add(entry, calls[at], more)
    for key, payloads in more.items():
        if type(entry.get(key)) is dict:
            entry[key] = _joined(entry[key], payloads, KEYS[key][1])
    _leave(entry, calls[home], (*path, home), pieces)
    return home, entry


def _add(entry: dict[str, Any], other: dict[str, Any], more: dict[str, list[dict[str, Any]]]) -> None:
    """Payloads to `more`; of anything else what was said first stays."""
    for key, value in other.items():
        if key not in KEYS:
            entry[key] = value if entry.get(key) is None else entry[key]
        elif type(value) is dict:
            more.setdefault(key, []).append(value)


def _joined(first: dict[str, Any], others: Sequence[dict[str, Any]], arguments: str) -> dict[str, Any]:
    """One payload; what goes on with a call has no name."""
    found = {**first}
    for other in others:
        for key, value in other.items():
            found[key] = value if found.get(key) is None else found[key]
    said = [each.get(arguments) for each in (first, *others)]
    if found.get(arguments) is not None and all(one is None or type(one) is str for one in said):
        found[arguments] = "".join(one for one in said if one)
    return found


def _leave(entry: dict[str, Any], came: dict[str, Any], owner: Path, pieces: list[Piece]) -> None:
    """Each member by itself, so that a policy's change of it still has its place."""
    for key, value in entry.items():
        old = came.get(key)
        if key in KEYS and type(value) is dict and type(old) is dict:
            _leave(value, old, (*owner, key), pieces)
        elif key not in came or old != value:
            pieces.append(leaves_as((*owner, key), value))
