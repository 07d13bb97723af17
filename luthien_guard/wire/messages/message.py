"""The message object: the whole answer in a body, its (mostly empty) beginning in `message_start`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from luthien_guard.errors import IllegalOutput
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.indices import no_list
from luthien_guard.wire.json_text import DELETE, Raw, dumps, patch, value_at
from luthien_guard.wire.messages.arguments import arguments_of
from luthien_guard.wire.messages.blocks import (
    Latest,
    Slice,
    begin,
    call_kind,
    envelope,
    is_known,
    read_on,
    runs_at_client,
)
from luthien_guard.wire.messages.elements import Elements
from luthien_guard.wire.messages.splice import agreed
from luthien_guard.wire.strings import opaque

__all__ = [
    "changes_of",
    "explanations",
    "read_message",
    "read_stop",
    "read_usage",
    "stop_reason",
]

_NAMES: Final = ("id", "type", "role", "model", "stop_reason")
_USAGE_NAMES: Final = ("service_tier", "inference_geo", "speed", "type", "model")


def read_message(
    message: dict[str, Any], path: Path, pieces: list[Piece], slice_: Slice, latest: Latest, made: int = 0
) -> str:
    """The pieces of a message object. Gives "" or why a part of it is of no kind that the format knows."""
    unknown = ""
    content = message.get("content")
    if isinstance(content, list):
        for at, raw in enumerate(content):
            unknown = _element(raw, (*path, "content", at), made + at, pieces, slice_, latest) or unknown
    elif content is not None:
        unknown = no_list(content, (*path, "content"), [], pieces)
    read_stop(message, path, pieces)
    read_usage(message, path, pieces)
    envelope(message, path, pieces, names=_NAMES, skip=("content", "usage"))
    return unknown


def _element(raw: Any, path: Path, index: int, pieces: list[Piece], slice_: Slice, latest: Latest) -> str:
    if not isinstance(raw, dict):
        opaque(raw, path, pieces)
        return "a content block that is no object"
    block = begin(raw, path, index, pieces, slice_)
    if block is not None:
        read_on(block, latest)
        block.closed = True
        pieces.append(Piece(PieceKind.STOP, block=block, owner=path))
    kind = raw.get("type")
    return "" if is_known(kind) or call_kind(kind) else f"block type {kind!r}"[:200]


def read_stop(holder: dict[str, Any], path: Path, pieces: list[Piece]) -> None:
    reason = holder.get("stop_reason")
    if isinstance(reason, str):
        pieces.append(Piece(PieceKind.FINISH, path=(*path, "stop_reason"), text=reason))


def read_usage(holder: dict[str, Any], path: Path, pieces: list[Piece]) -> None:
    usage = holder.get("usage")
    if isinstance(usage, dict):
        pieces.append(Piece(PieceKind.USAGE, path=(*path, "usage"), value=usage))
        envelope(usage, (*path, "usage"), pieces, names=_USAGE_NAMES)
    else:
        opaque(usage, (*path, "usage"), pieces)


def stop_reason(reason: str, *, removed: int, kept: int) -> str:
    """`tool_use` is true only while a call of the client's is left; any other reason is upstream's to say."""
    return "end_turn" if reason == "tool_use" and removed and not kept else reason


# -- writing -----------------------------------------------------------------------------------------------------------


def changes_of(
    text: str, data: Any, path: Path, pieces: Sequence[Piece], said: Mapping[Block, str] | None = None
) -> dict[Path, Any]:
    """What to patch in `text`, the JSON text of `data`, so that its message at `path` says what was decided. `said`: the
    explanations of a stream, where it is no whole answer."""
    changes = agreed(pieces)
    calls: dict[Any, Block] = {}
    for piece in pieces:
        if piece.kind is PieceKind.START and piece.block is not None and piece.block.kind == "call":
            calls[piece.owner[-1]] = piece.block
    client = [block for block in calls.values() if runs_at_client(block)]
    removed = sum(block.removed for block in client)
    for piece in pieces:
        _decided(piece, changes)
        if piece.kind is PieceKind.FINISH:
            reason = stop_reason(piece.text, removed=removed, kept=len(client) - removed)
            if reason != piece.text:
                changes[piece.path] = reason
    if said is None:
        said = explanations((block, block) for block in calls.values())
    if any(block.removed or block in said for block in calls.values()):
        return _rebuilt(text, data, path, calls, changes, said)
    return changes


def _decided(piece: Piece, changes: dict[Path, Any]) -> None:
    block = piece.block
    if block is None or block.removed:
        return
    if piece.kind is PieceKind.START and block.new_name is not None:
        changes[(*piece.owner, "name")] = block.new_name
    elif piece.out is not None and piece.is_json:
        if piece.path == piece.owner:
            raise IllegalOutput(
                f"anthropic.messages: nobody knows how to change {block.name!r}", policy="", hook=""
            )
        changes[piece.path] = Raw(arguments_of(block, piece.out))
    elif piece.out is not None:
        changes[piece.path] = piece.out


def explanations(calls: Iterable[tuple[Block, Block]]) -> dict[Block, str]:
    """What explains removed calls, by the call before which it is said: text may not follow a call of the client's, so
    from the first of those on all of it is said there. `calls`: each with the one in whose place it stands."""
    found: dict[Block, list[str]] = {}
    first: Block | None = None
    for call, place in calls:
        first = place if first is None and runs_at_client(place) else first
        if call.removed and call.replacement:
            found.setdefault(first or place, []).append(call.replacement)
    return {place: "\n\n".join(texts) for place, texts in found.items()}


def _rebuilt(
    text: str,
    data: Any,
    path: Path,
    calls: dict[Any, Block],
    changes: dict[Path, Any],
    said: Mapping[Block, str],
) -> dict[Path, Any]:
    """The content list anew, each element as it stands."""
    place = (*path, "content")
    gone = {block.id for block in calls.values() if block.removed and block.id and not runs_at_client(block)}
    stands = Elements(text, place)
    inner: dict[Any, dict[Path, Any]] = {}
    outer: dict[Path, Any] = {}
    for where, value in changes.items():
        if where[: len(place)] == place:
            inner.setdefault(where[len(place)], {})[where[len(place) + 1 :]] = value
        else:
            outer[where] = value
    elements: list[str] = []
    for at, element in enumerate(value_at(data, place)):
        block = calls.get(at)
        if block is not None and block in said:
            elements.append(_text(said[block]))
        if (
            inner.get(at, {}).get(()) is not DELETE
            and not (block is not None and block.removed)
            and not _belongs_to(element, gone)
        ):
            elements.append(patch(stands[at], inner.get(at, {})))
    return {**outer, place: Raw("[" + ",".join(elements) + "]")}


def _belongs_to(element: Any, gone: set[str]) -> bool:
    of = element.get("tool_use_id") if isinstance(element, dict) else None
    return isinstance(of, str) and of in gone


def _text(text: str) -> str:
    return dumps({"type": "text", "text": text})
