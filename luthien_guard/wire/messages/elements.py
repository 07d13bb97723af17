"""The JSON text of the content blocks of a body, as it stands: found in one pass, however many there are."""

from __future__ import annotations

from json import JSONDecoder
from typing import Any, Final

from luthien_guard.wire.format import Path
from luthien_guard.wire.json_text import slice_of

__all__ = ["Elements"]

# Only where a value ends is asked for; numbers may have more digits than Python turns into an int.
_end_of: Final = JSONDecoder(parse_int=len, parse_float=len).raw_decode


class Elements:
    """The elements of the list at `path` of a JSON text that was parsed before."""

    __slots__ = ("_found", "_path", "_text")

    def __init__(self, text: str, path: Path) -> None:
        self._text = text
        self._path = path
        self._found: list[str] | None = None

    def __getitem__(self, at: int) -> str:
        if self._found is None:
            self._found = _split(slice_of(self._text, self._path))
        return self._found[at]

    def slice(self, path: Path) -> str:
        """The text of the value at `path` of the whole, which is in an element."""
        at: Any = path[len(self._path)]
        return slice_of(self[at], path[len(self._path) + 1 :])


def _split(text: str) -> list[str]:
    found: list[str] = []
    at = _next(text, 1)
    while text[at] != "]":
        end = _end_of(text, at)[1]
        found.append(text[at:end])
        at = _next(text, end)
    return found


def _next(text: str, at: int) -> int:
    """Where the next element begins, or the list ends."""
    while text[at] in " \t\n\r,":
        at += 1
    return at
