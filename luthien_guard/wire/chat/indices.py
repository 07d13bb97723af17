"""Which choice and which call a fragment belongs to, as clients understand an index."""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.wire.format import Path, Piece
from luthien_guard.wire.indices import index_of, leaves_as

__all__ = ["MAX_CHOICES", "choice_of", "last_choice", "number_of", "read_choice_index"]

#: OpenAI's own limit (`Limits.max_choices` may be a smaller one). All choices beyond are made this one, so that nothing
#: grows with their number and nobody puts them together as policies did not.
MAX_CHOICES: Final = 128


def number_of(raw: Any) -> int | None:
    """An index as clients understand it: in Python element 1 is also found under true. None for what is no index."""
    return index_of(int(raw) if type(raw) is bool else raw)


def last_choice(asked: int | None) -> int:
    """Of a stream for a request with this `n`. Who asked for one choice takes the first of each chunk, whatever its index:
    then all are made that one. Some servers count tokens or blocks there."""
    return 0 if asked == 1 else MAX_CHOICES


def choice_of(raw: Any, default: int = 0, last: int = MAX_CHOICES) -> int:
    """The choice that `index` means; `default` where it means none."""
    if type(raw) is int and 0 <= raw <= last:  # nearly always
        return raw
    number = number_of(raw)
    return min(default if number is None else number, last)


def read_choice_index(
    raw: Any, default: int, path: Path, pieces: list[Piece], last: int = MAX_CHOICES
) -> tuple[int, str]:
    """(the choice, why its index is of no known kind). Where it says so in another way than all clients understand, it
    is made to say so."""
    number = choice_of(raw, default, last)
    # also without an index: for most clients that is choice 0, for some a choice beside it
    if type(raw) is not int or raw != number:
        pieces.append(leaves_as((*path, "index"), number))
    if number == MAX_CHOICES:
        return number, f"more than {MAX_CHOICES} choices"
    if type(raw) is int and raw == number:
        return number, ""
    return number, "" if raw is None or number_of(raw) is not None else "a choice whose index is no number"
