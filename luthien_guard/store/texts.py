"""Texts as every database takes them: the payload of a row, columns, and how a payload may spell what is looked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["payload_of", "plain", "spellings", "usage_of"]

#: `json.dumps` with these options makes one anew for every call.
_readable: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str
).encode


def payload_of(details: Mapping[str, Any]) -> str:
    """Details as the JSON that is stored, readable and searchable; lone surrogates, which no database takes, stay as
    escapes, and numbers that JSON does not have are text ("NaN", "Infinity", "-Infinity"). Raises ValueError for what
    holds itself."""
    try:
        text = _readable(details)
    except ValueError:
        text = _readable(json.loads(json.dumps(details, default=str), parse_constant=str))
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), separators=(",", ":"))
    return text


def plain(text: str) -> str:
    """As a column of text holds it: PostgreSQL has no NUL, and no database a lone surrogate."""
    if text.isascii():  # nearly always
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def spellings(text: str) -> list[str]:
    """How a payload may hold the text: in its JSON, or in that of a body inside of it; in both, what is not ASCII may
    be escaped. None of them has a NUL or a lone surrogate."""
    once = [_escaped(text, ascii) for ascii in (False, True)]
    twice = [_escaped(each, ascii) for each in once for ascii in (False, True)]
    return [each for each in dict.fromkeys([*once, *twice]) if plain(each) == each]


def _escaped(text: str, ascii: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii)[1:-1]


def usage_of(column: str | None) -> Mapping[str, Any] | None:
    """The usage that a line holds as JSON. A line that somebody broke can still be listed, and is: as it stands there."""
    try:
        found = None if column is None else json.loads(column)
    except (ValueError, RecursionError):
        found = column
    return found if found is None or isinstance(found, dict) else {"unreadable": column}
