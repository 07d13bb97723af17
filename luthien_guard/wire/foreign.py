"""Tool calls in what a wire format does not model: in members of no chunk of its own, in events of no kind that it knows,
in the shape of another format.

No policy could judge them there, and who goes by what a chunk holds would take them for calls of the answer. So there is
one rule for all of it: the outermost value that the format does not model leaves without them, or not at all.
"""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.wire.format import Path, Piece, PieceKind
from luthien_guard.wire.json_text import DELETE

__all__ = [
    "NO_ANSWER",
    "is_call_type",
    "is_foreign_call",
    "left_out",
    "no_answer",
    "of_no_kind",
    "without_calls",
]

#: Why a chunk of which nothing is modelled cannot be judged; see `Reader.unknown`.
NO_ANSWER: Final = "a tool call in what is no answer of its wire format"
#: Types of calls that do not end like one.
_TYPES: Final = frozenset({"mcp_approval_request", "input_json_delta"})
#: A program that calls tools. What only refers to one has no code.
_PROGRAM: Final = "program"
_ENDS: Final = ("_call", "tool_use")
#: Members that hold calls without a type, in chat completions and what is like them, in Gemini's and Bedrock's formats.
_HOLDERS: Final = frozenset({"tool_calls", "toolCalls", "function_call", "functionCall", "toolUse"})
#: What a call says of itself. A schema that describes one says it of its properties.
_SAID: Final = frozenset({"name", "arguments", "args", "input", "function", "custom"})
_SPELLS: Final = frozenset({"delta", "arguments", "input", "code", "command"})
_LOST: Final = ("call", DELETE)


def is_call_type(kind: Any) -> bool:
    """True for what a tool call is called, in any format."""
    if type(kind) is not str or "." in kind:  # events of Responses are called so
        return False
    return kind in _TYPES or kind.replace("-", "_").endswith(_ENDS)


def is_foreign_call(value: Any) -> bool:
    """True for a whole chunk that the format does not model: a call, or a list with one in it."""
    return _is_call(value) if type(value) is dict else _holds(value)


def without_calls(value: Any, path: Path, pieces: list[Piece]) -> None:
    """A value that the format does not model. What of it must not leave: the members of an object that hold a call; all of
    what is a call itself."""
    if type(value) is dict and not (path and _is_call(value)):
        for key, each in value.items():
            if each and (_is_one(key, each) or _says_so(key, each)):
                pieces.append(_lost((*path, key)))
    elif path and is_foreign_call(value):
        pieces.append(_lost(path))


def left_out(pieces: list[Piece]) -> str:
    """Why a chunk is of no known kind: the first place that leaves without its calls; "" where there is none."""
    for piece in pieces:
        if piece.value is _LOST:
            return f"a tool call at {'.'.join(map(str, piece.path))!r}"[:200]
    return ""


def of_no_kind(data: Any, why: str) -> str:
    """`why` a chunk is of no kind that the format knows; where it is a call, nothing of it may leave."""
    return NO_ANSWER if is_foreign_call(data) else why


def no_answer(body: Any, pieces: list[Piece]) -> str:
    """The same of a body that is no answer of the format at all: what would be left of it without its calls is none
    either. "" where it has none."""
    return NO_ANSWER if is_foreign_call(body) or left_out(pieces) else ""


def _lost(path: Path) -> Piece:
    return Piece(PieceKind.DERIVED, path=path, value=_LOST)


def _is_call(value: dict[str, Any]) -> bool:
    """An object of nothing but a type says nothing."""
    if len(value) < 2:
        return False
    kind = value.get("type")
    if is_call_type(kind) or (kind == _PROGRAM and "code" in value):
        return True
    return type(value.get("name")) is str and "arguments" in value


def _is_fragment(value: dict[str, Any]) -> bool:
    """An event of Responses that spells out the arguments of a call, in something else."""
    kind = value.get("type")
    return type(kind) is str and "_call" in kind and "." in kind and not _SPELLS.isdisjoint(value)


def _is_one(key: str, value: Any) -> bool:
    """Whether a member is a call, or holds one."""
    return (key in _HOLDERS and _says_call(value)) or _holds(value)


def _says_so(key: str, value: Any) -> bool:
    """Whether a member makes a call of an object that the format takes for something else."""
    return key == "arguments" or (key == "type" and is_call_type(value))


def _holds(value: Any) -> bool:
    if type(value) is dict:
        return (
            _is_call(value) or _is_fragment(value) or any(_is_one(key, each) for key, each in value.items())
        )
    return type(value) is list and any(map(_holds, value))


def _says_call(value: Any) -> bool:
    """A list of calls, one call, or what JavaScript takes for a list."""
    if type(value) is list:
        return any(map(_says_call, value))
    if type(value) is not dict:
        return False
    return not _SAID.isdisjoint(value) or any(
        key.isdecimal() and _says_call(each) for key, each in value.items()
    )
