"""JSON as text: strict reading, and changes that touch only the bytes that they have to.

Law 2: JSON is accepted only if every parser would read the same thing. jiter rejects duplicate keys, NaN, lone
surrogates and trailing data; it still reads 1e400 as infinity and goes 200 levels deep, so both are closed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import accumulate
from json.decoder import scanstring  # type: ignore[attr-defined]
from json.encoder import encode_basestring
from typing import Any, Final

import jiter

from luthien_guard.errors import BodyTooLarge, MalformedBody
from luthien_guard.wire.format import Path

__all__ = [
    "DELETE",
    "LINE_ENDS",
    "Raw",
    "begin_of",
    "dumps",
    "loads",
    "patch",
    "slice_of",
    "string_text",
    "value_at",
]

MAX_DEPTH: Final = 128


class Raw(str):
    """JSON text to put in as it is, not as a string."""

    __slots__ = ()


class _Delete:
    def __repr__(self) -> str:
        return "DELETE"


#: As a new value in `patch`: the member or element goes, with its comma.
DELETE: Final = _Delete()

# Some line readers end a line here; in JSON they only stand in strings, where an escape means the same.
LINE_ENDS: Final = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
# One pass in C that makes the questions below cheap: digits become 0, E becomes e, brackets become {}, a plus goes.
_FOLDED: Final = bytes.maketrans(b"123456789E[]", b"000000000e{}")
# Of long texts nearly all stands in strings, where the same characters mean nothing: those go first. For that, strings need
# their ends, and numbers what keeps them apart.
_LONG: Final = 4096
_IDLE: Final = bytes(set(range(256)) - set(b'0123456789eE{}[]",'))
_NO_BRACES: Final = b"0e,"
# A double overflows from 10**308 on: with an exponent of three digits, or with one of two (at most 99) and 210 digits
# before it.
_LONG_NUMBER: Final = b"0" * 210
# It never backtracks, and a string without an end matches to the end of the text: the time is linear.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def loads(text: bytes | bytearray | memoryview, *, max_depth: int = MAX_DEPTH) -> Any:
    """Parse strictly. Raises MalformedBody, or BodyTooLarge when nested deeper than `max_depth`."""
    if type(text) is not bytes:
        text = bytes(text)
    try:
        value = jiter.from_json(text, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:  # it may be too deep for jiter, too
        _check_depth(text, max_depth)
        raise MalformedBody(f"not strict JSON: {error}") from None
    folded = text.translate(_FOLDED, b"+") if len(text) < _LONG else _outside_strings(text)
    if folded.count(b"{") > max_depth:
        folded = folded if len(text) >= _LONG else _outside_strings(text)
        if _is_deeper(folded, max_depth):
            raise BodyTooLarge(f"JSON nested deeper than {max_depth}")
    # `in` would first try to take what it looks for for a number, and fail
    if folded.find(b"0e000") >= 0 or folded.find(_LONG_NUMBER) >= 0:
        _check_finite(value)
    return value


def dumps(value: Any) -> str:
    """Compact JSON text."""
    if isinstance(value, Raw):
        return str(value)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text if text.isascii() else text.translate(LINE_ENDS)


def value_at(data: Any, path: Path) -> Any:
    """What stands at a path. KeyError, IndexError or TypeError where it leads nowhere."""
    for key in path:
        data = data[key]
    return data


def string_text(value: str) -> str:
    """`dumps` for a string."""
    return encode_basestring(value) if value.isascii() else dumps(value)


def _outside_strings(text: bytes) -> bytes:
    """Numbers, brackets and commas of valid JSON, folded."""
    if text.find(b'\\"') >= 0:
        if text.find(b"\\\\") >= 0:
            text = text.replace(b"\\\\", b"")
        text = text.replace(b'\\"', b"")
    return b"".join(text.translate(_FOLDED, _IDLE).split(b'"')[::2])


def _is_deeper(outside: bytes, max_depth: int) -> bool:
    """A pass takes the innermost level away, which is most of what there is; where it is not, one counts."""
    braces = outside.translate(None, _NO_BRACES)
    for depth in range(max_depth):
        around = braces.replace(b"{}", b"")
        if len(around) > len(braces) // 2:
            return _depth_of(braces) > max_depth - depth
        braces = around
    return bool(braces)


def _depth_of(brackets: bytes) -> int:
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _check_depth(text: bytes, max_depth: int) -> None:
    """Of what may be no JSON."""
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    if _depth_of(brackets) > max_depth:
        raise BodyTooLarge(f"JSON nested deeper than {max_depth}")


def _check_finite(value: Any) -> None:
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, float) and (value - value) != 0.0:
            raise MalformedBody("not strict JSON: a number out of range")
        if isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)


# -- places in the text ------------------------------------------------------------------------------------------------

_WHITESPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"[^ \t\n\r,\]}]+")


def _skip(text: str, at: int) -> int:
    return _WHITESPACE.match(text, at).end()  # type: ignore[union-attr]


def _end_of(text: str, at: int) -> int:
    """Where the value that begins at `at` ends; the text was parsed before, so it is well-formed."""
    first = text[at]
    if first == '"':
        return scanstring(text, at + 1)[1]  # type: ignore[no-any-return]
    if first not in "[{":
        return _SCALAR.match(text, at).end()  # type: ignore[union-attr]
    depth = 0
    while True:
        mark = text[at]
        if mark == '"':
            at = scanstring(text, at + 1)[1]
            continue
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1


def _members(text: str, at: int) -> list[tuple[str | int, int, int, int]]:
    """(key or index, where the member begins, where its value begins, where it ends) of the container at `at`."""
    found: list[tuple[str | int, int, int, int]] = []
    is_object = text[at] == "{"
    at = _skip(text, at + 1)
    while text[at] not in "]}":
        begin = at
        key: str | int = len(found)
        if is_object:
            key, at = scanstring(text, at + 1)
            at = _skip(text, _skip(text, at) + 1)  # past the colon
        end = _end_of(text, at)
        found.append((key, begin, at, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def slice_of(text: str, path: Path) -> str:
    """The JSON text of the value at `path`, as it stands. Raises KeyError."""
    begin, end = _locate(text, path)
    return text[begin:end]


def begin_of(text: str, path: Path) -> int:
    """Where the value at `path` begins. Raises KeyError."""
    return _locate(text, path)[0]


def _locate(text: str, path: Path) -> tuple[int, int]:
    at = _skip(text, 0)
    for key in path:
        if text[at] not in "[{":
            raise KeyError(path)
        at = next((value for name, _, value, _ in _members(text, at) if name == key), -1)
        if at < 0:
            raise KeyError(path)
    return at, _end_of(text, at)


# -- changes -----------------------------------------------------------------------------------------------------------


def patch(text: str, changes: Mapping[Path, Any]) -> str:
    """`text` with the values at the paths replaced; everything else stays to the letter.

    A value is any JSON value, `Raw` JSON text, or DELETE. A path whose last key is not there adds a member; the index
    one past the end of an array appends. Raises KeyError when a path leads nowhere.
    """
    if not changes:
        return text
    tree: dict[str | int, Any] = {}
    for path, value in changes.items():
        if not path:
            return dumps(value)
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                break  # an outer value is replaced whole: inner changes have no place
        else:
            node[path[-1]] = (value,)  # a tuple marks a leaf
    at = _skip(text, 0)
    end = _end_of(text, at)
    return text[:at] + _rewrite(text, at, end, tree) + text[end:]


def _rewrite(text: str, at: int, end: int, tree: Mapping[str | int, Any]) -> str:
    """The container at `at` with the changes of `tree`, whose leaves are one-tuples."""
    if text[at] not in "[{":
        raise KeyError(next(iter(tree)))
    todo = dict(tree)
    written = [text[at]]
    last = at + 1  # everything before is written or dropped
    for key, begin, value, stop in _members(text, at):
        change = todo.pop(key, None)
        lead, last = text[last:begin], stop
        if change == (DELETE,):
            continue
        if len(written) == 1:
            lead = lead.replace(",", "", 1)  # the members before this one went
        written.append(lead + text[begin:value] + _changed(text, value, stop, change))
    for key, change in todo.items():
        if not isinstance(change, tuple):
            raise KeyError(key)
        if change != (DELETE,):
            name = dumps(key) + ":" if text[at] == "{" else ""
            written.append(("," if len(written) > 1 else "") + name + dumps(change[0]))
    return "".join(written) + text[last:end]


def _changed(text: str, at: int, end: int, change: Any) -> str:
    if change is None:
        return text[at:end]
    if isinstance(change, tuple):
        return dumps(change[0])
    return _rewrite(text, at, end, change)
