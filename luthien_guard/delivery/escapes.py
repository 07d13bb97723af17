"""A text without the escapes of JSON strings, and where each of its characters stood: `caller\\/key` says `caller/key`.

An escape says the same however often it was escaped: a key in a string, in the arguments of a call, in a body, stands
behind one backslash, or three, or seven. So every row of backslashes is one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Final

__all__ = ["Unescaped", "bare", "hides_letters", "is_never_escaped", "plainest"]

#: What can stand for printable ASCII. Line ends and quotes, of which bodies are full, cannot. (The row has a bound: to
#: look for its end from each of a million backslashes takes hours. A longer one is read in several times.)
_LETTERS: Final = re.compile(r"(\\\\{0,7}+(?:/|u00[2-7][0-9a-fA-F]))")
_HAS_LETTERS: Final = re.compile(r"\\(?:/|u00[2-7])")
_PAIR: Final = r"u[dD][89abAB][0-9a-fA-F]{2}\\++u[dD][c-fC-F][0-9a-fA-F]{2}"
_ALL: Final = re.compile(rf'(\\\\*+(?:["/bfnrt]|{_PAIR}|u[0-9a-fA-F]{{4}})?)')
_NEVER_ESCAPED: Final = re.compile(r"[ !#-\[\]-~]*+")
_ESCAPED: Final = re.compile(r"[^ !#-.0-\[\]-~]+")
_CONTROLS: Final = dict(zip("bfnrt", "\b\f\n\r\t", strict=True))


class Unescaped:
    """`text` is what the escapes say: of letters only, or of everything."""

    def __init__(self, escaped: str, *, letters: bool) -> None:
        self._written = (_LETTERS if letters else _ALL).split(escaped)  # every second part is an escape
        self._read = self._written.copy()
        self._read[1::2] = map(_said, self._written[1::2])
        self.text = "".join(self._read)

    def origin(self, at: int) -> int:
        """The place in the escaped text where the character `at` begins; the end of `text` is the end of that."""
        before, origins = self._begins
        part = bisect_right(before, at) - 1
        return origins[part] + at - before[part]

    @cached_property
    def _begins(self) -> tuple[list[int], list[int]]:
        """Of every part: where it begins in `text`, and where in the escaped one."""
        return _sums(self._read), _sums(self._written)


def bare(secret: str) -> str:
    """As it is found in an unescaped text: without its own backslashes."""
    return Unescaped(secret, letters=False).text


def hides_letters(text: str) -> bool:
    """Whether something is spelled that could be written as it is."""
    return _HAS_LETTERS.search(text) is not None


def is_never_escaped(secret: str) -> bool:
    """Whether JSON has it as it is, unless somebody spells its letters."""
    return _NEVER_ESCAPED.fullmatch(secret) is not None


def plainest(secret: str) -> str:
    """The longest part that stands in any JSON as it is, unless somebody spells its letters."""
    return max(_ESCAPED.split(secret), key=len)


def _sums(parts: list[str]) -> list[int]:
    return [0, *accumulate(map(len, parts))]


@lru_cache(maxsize=1024)
def _said(escape: str) -> str:
    kind = escape.lstrip("\\")
    if kind.startswith("u"):
        units = bytes.fromhex("".join(re.findall("u(....)", kind)))
        return units.decode("utf-16-be", "surrogatepass")
    return _CONTROLS.get(kind, kind)
