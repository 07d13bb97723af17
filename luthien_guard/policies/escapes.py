"""What a text says once its escapes are undone: JSON, JSON in JSON, and what a lenient reader takes for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["meanings"]

#: Stands for an escaped backslash while the other escapes are undone. It is no character, and who sends it all the same gets
#: a backslash: one more escape to undo.
_BACKSLASH: Final = "\U0010ffff"
_BACKSLASHES: Final = (r"\\", r"\u005c", r"\u005C")
_ESCAPES: Final = {r"\"": '"', r"\/": "/", r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\b": "\b", r"\f": "\f"}
#: So many levels are undone whatever the size of the text; further ones while the work is bounded.
_LEVELS: Final = 4
_WORK: Final = 1 << 20  # characters, over all levels


def meanings(text: str) -> Iterator[str]:
    """The text, then what it says with its escapes undone once, twice, and so on until there are none. Every string of a
    JSON text is part of one of these, and so is every string of JSON that stands in such a string. Nothing has to be
    valid: another parser may read what ours does not. Raises ValueError for a long text with escapes in escapes."""
    spent = level = 0
    while True:
        yield text
        if "\\" not in text:
            return
        spent += len(text)
        level += 1
        if level > _LEVELS and spent > _WORK:
            raise ValueError("too many escapes in escapes")
        text = _undone(text)


def _undone(text: str) -> str:
    """Once. Without a step of Python for each escape: there may be millions."""
    for escape in _BACKSLASHES:
        text = text.replace(escape, _BACKSLASH)
    for escape, meant in _ESCAPES.items():
        text = text.replace(escape, meant)
    if r"\u" in text:
        text = text.encode("raw_unicode_escape").decode("raw_unicode_escape", "replace")
    text = text.replace("\\", "").replace(_BACKSLASH, "\\")
    return text if text.isascii() else _paired(text)


def _paired(text: str) -> str:
    """Two escapes may make one character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
