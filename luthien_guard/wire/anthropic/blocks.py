"""Content blocks: what each kind is, and which pieces it consists of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from luthien_guard.events import Channel, ToolKind
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, is_identifier
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.strings import opaque, strings_in

__all__ = ["begin", "call_kind", "citation", "identifier", "is_result", "known_type"]

#: Text blocks: the field with the text, its channel, and whether a policy may rewrite it (thinking is signed).
_TEXTS: Final[dict[str, tuple[str, Channel, bool]]] = {
    "text": ("text", "content", True),
    "thinking": ("thinking", "reasoning", False),
}
_KNOWN: Final = frozenset({"redacted_thinking", "container_upload", "fallback", "compaction"})


def call_kind(kind: Any) -> ToolKind | None:
    """The kind of tool call that a block type is; None for anything else."""
    if kind == "tool_use":
        return "function"
    if kind == "server_tool_use":
        return "server"
    if kind == "mcp_tool_use":
        return "mcp"
    looks_like_one = isinstance(kind, str) and kind.endswith(("_call", "tool_use"))
    return "unknown" if looks_like_one else None


def is_result(kind: Any) -> bool:
    """What a server tool gave back: it goes when its call goes."""
    return isinstance(kind, str) and kind.endswith("tool_result")


def known_type(kind: Any) -> bool:
    return kind in _TEXTS or kind in _KNOWN or is_result(kind) or call_kind(kind) is not None


def identifier(value: Any, path: Path, pieces: list[Piece]) -> None:
    """Nothing for what looks like an identifier; anything else is text after all."""
    if value is not None and not (isinstance(value, str) and is_identifier(value)):
        opaque(value, path, pieces)


def citation(value: Any, path: Path, index: int, pieces: list[Piece]) -> None:
    """Each string of a citation is a text of its own on that channel."""
    for place, text in strings_in(value, path):
        if place[-1] in ("type", "file_id") and is_identifier(text):
            continue
        block = Block("text", index=index, channel="citation", writable=False)
        block.source.append(text)
        block.closed = True
        pieces.append(Piece(PieceKind.START, block=block))
        pieces.append(Piece(PieceKind.DELTA, block=block, path=place, text=text))
        pieces.append(Piece(PieceKind.STOP, block=block))


def begin(
    raw: dict[str, Any], path: Path, index: int, pieces: list[Piece], slice_of: Callable[[Path], str]
) -> Block | None:
    """The pieces of a block as it stands at `path`: a whole one in a body, the beginning of one in a stream. Gives
    the block, None for kinds that are neither text nor call. `slice_of` gives the JSON text at a path."""
    kind = raw.get("type")
    tool_kind = call_kind(kind)
    if tool_kind is not None:
        return _call(raw, tool_kind, path, index, pieces, slice_of)
    field, channel, writable = _TEXTS.get(kind, ("", "other", False)) if isinstance(kind, str) else ("", "other", False)
    text = raw.get(field)
    if not isinstance(text, str):
        identifier(kind, (*path, "type"), pieces)
        identifier(raw.get("tool_use_id"), (*path, "tool_use_id"), pieces)
        opaque({key: value for key, value in raw.items() if key not in ("type", "tool_use_id")}, path, pieces)
        return None
    block = Block("text", index=index, channel=channel, writable=writable)
    pieces.append(Piece(PieceKind.START, block=block))
    if text:
        block.source.append(text)
        pieces.append(Piece(PieceKind.DELTA, block=block, path=(*path, field), text=text))
    for key, value in raw.items():
        if key == "citations" and value:
            citation(value, (*path, key), index, pieces)
        elif key not in ("type", field, "citations"):
            opaque({key: value}, path, pieces)
    return block


def _call(
    raw: dict[str, Any],
    tool_kind: ToolKind,
    path: Path,
    index: int,
    pieces: list[Piece],
    slice_of: Callable[[Path], str],
) -> Block:
    id, name = raw.get("id"), raw.get("name")
    block = Block("call", index=index, tool_kind=tool_kind)
    block.id = id if isinstance(id, str) else ""
    block.name = name if isinstance(name, str) else str(raw["type"]) if tool_kind == "unknown" else ""
    place = (*path, "name") if isinstance(name, str) else ()
    pieces.append(Piece(PieceKind.START, block=block, path=place, text=block.name, owner=path))
    for key in ("id", "type"):
        identifier(raw.get(key), (*path, key), pieces)
    if not isinstance(name, str):
        opaque(name, (*path, "name"), pieces)
    if raw.get("input") not in (None, {}, ""):
        text = slice_of((*path, "input"))
        block.source.append(text)
        pieces.append(Piece(PieceKind.DELTA, block=block, path=(*path, "input"), text=text, is_json=True, owner=path))
    rest = {key: value for key, value in raw.items() if key not in ("id", "type", "name", "input")}
    if tool_kind == "unknown" and rest:
        # nobody knows which of its fields the arguments are: all of them
        text = dumps(rest)
        block.source.append(text)
        pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text, is_json=True, owner=path))
    opaque(rest, path, pieces)
    return block
