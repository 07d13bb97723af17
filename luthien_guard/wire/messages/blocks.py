"""Content blocks: what each type is, and which pieces one consists of."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from luthien_guard.events import Channel, ToolKind
from luthien_guard.wire.foreign import is_call_type, is_foreign_call, without_calls
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, is_identifier
from luthien_guard.wire.indices import leaves_as, strings_only
from luthien_guard.wire.json_text import DELETE, dumps
from luthien_guard.wire.strings import opaque, strings_in

__all__ = [
    "Aside",
    "Latest",
    "Place",
    "Slice",
    "begin",
    "beside",
    "call_kind",
    "citations",
    "envelope",
    "is_known",
    "read_on",
    "runs_at_client",
    "wire_key",
]

#: Gives the JSON text of the value at a path.
Slice = Callable[[Path], str]


class Aside:
    """The same of a block of no type that the format knows, whose text clients read that look for one: no delta that the
    format knows goes on with it."""

    __slots__ = ("key",)
    delta = ""
    whole = False

    def __init__(self, key: Any) -> None:
        self.key = key


class Place:
    """What a block of a stream knows of its wire block (`Block.codec`); citations have none."""

    __slots__ = ("delta", "key", "whole")

    def __init__(self, key: Any, delta: str, *, whole: bool = False) -> None:
        self.key = key  # upstream's index, see `wire_key`
        self.delta = delta  # the type of the deltas that go on with it
        self.whole = whole  # the arguments stood in the start already


def wire_key(index: Any) -> Any:
    """What stands for upstream's index: 1, true, 1.0 and "1" are four blocks."""
    return index if type(index) is int else f"{type(index).__name__}:{dumps(index)}"


#: The text of each channel that began last.
Latest = dict[Channel, Block]

#: Text blocks: the field with the text, its channel, whether a policy may rewrite it (thinking and summaries are signed).
#: A summary is text of the answer: Vercel's SDK shows it so.
_TEXTS: Final[dict[str, tuple[str, Channel, bool]]] = {
    "text": ("text", "content", True),
    "thinking": ("thinking", "reasoning", False),
    "compaction": ("content", "content", False),
}
#: Of types that the format does not know: some clients read the text of every block that has one.
_ODD: Final[tuple[str, Channel, bool]] = ("text", "content", False)
#: Members that some clients read whatever the type of the block is.
_SAID: Final = ("text", "thinking")
#: Types that consist of strings which nobody may rewrite: encrypted, or references.
_OTHERS: Final = frozenset({"redacted_thinking", "container_upload", "fallback"})
_CALLS: Final[dict[str, ToolKind]] = {
    "tool_use": "function",
    "server_tool_use": "server",
    "mcp_tool_use": "mcp",
}
_ENVELOPE: Final = ("type", "id", "tool_use_id", "server_name")


def call_kind(kind: Any) -> ToolKind | None:
    """The kind of tool call that a block type is; None for anything else."""
    if not isinstance(kind, str):
        return None
    return _CALLS.get(kind) or ("unknown" if is_call_type(kind) else None)


def runs_at_client(block: Block) -> bool:
    """True for calls after which no text may follow, and that `stop_reason: tool_use` speaks of."""
    return block.kind == "call" and block.tool_kind == "function"


def read_on(block: Block, latest: Latest) -> None:
    """A block begins: where it is a text, clients join it to the one of its channel before. The SDKs give the texts of a
    message as one, and one stream for all of them; most leave a summary out, so the text behind it is read on from the
    one before it."""
    if block.kind == "text":
        before = latest.get(block.channel)
        block.follows = before if before is None or before.source else before.follows
        if block.follows is None or block.writable or block.channel != "content":
            latest[block.channel] = block


def is_known(kind: Any) -> bool:
    if not isinstance(kind, str):
        return False
    return kind in _TEXTS or kind in _CALLS or kind in _OTHERS or kind.endswith("tool_result")


def envelope(
    holder: dict[str, Any],
    path: Path,
    pieces: list[Piece],
    *,
    names: Collection[str],
    skip: Collection[str] = (),
) -> None:
    """Account for the strings of `holder`: those under `names` are not text while they look like identifiers, those
    under `skip` the caller has read, the rest is opaque."""
    for key, value in holder.items():
        if key in skip:
            continue
        if key in names and (value is None or _is_name(value)):
            if key == "type":
                without_calls({key: value}, path, pieces)
            continue
        if type(value) in _DUMB and is_identifier(key):
            continue
        opaque({key: value}, path, pieces)


def _is_name(value: Any) -> bool:
    return type(value) is str and is_identifier(value)


_DUMB: Final = frozenset({int, float, bool, type(None)})


def citations(value: Any, path: Path, index: int, pieces: list[Piece]) -> None:
    """Each string of a citation is a text of its own on that channel: not writable, it points into a source."""
    without_calls(value, path, pieces)
    for place, text in strings_in(value, path):
        if place[-1] == "type" and is_identifier(text):
            continue
        block = Block("text", index=index, channel="citation", writable=False)
        block.source.append(text)
        block.closed = True
        pieces.append(Piece(PieceKind.START, block=block))
        pieces.append(Piece(PieceKind.DELTA, block=block, path=place, text=text))
        pieces.append(Piece(PieceKind.STOP, block=block))


def begin(raw: dict[str, Any], path: Path, index: int, pieces: list[Piece], slice_of: Slice) -> Block | None:
    """The pieces of a block as it stands at `path` (whole in a body, its beginning in a stream), without its STOP.
    None for a block that is neither text nor call."""
    kind = raw.get("type")
    strings_only(raw, "type", path, DELETE, pieces)
    tool_kind = call_kind(kind) or ("unknown" if not is_known(kind) and is_foreign_call(raw) else None)
    if tool_kind is not None:
        return _call(raw, tool_kind, path, index, pieces, slice_of)
    spelled = _TEXTS.get(kind) if isinstance(kind, str) else None
    if spelled is None and not is_known(kind) and isinstance(raw.get("text"), str) and raw["text"]:
        spelled = _ODD
    if spelled is not None:
        strings_only(raw, spelled[0], path, "", pieces)
    if spelled is None or not (isinstance(raw.get(spelled[0]), str) or kind == "compaction"):
        envelope(raw, path, pieces, names=_ENVELOPE if is_known(kind) else ("type",))
        if is_known(kind):
            _unsay(raw, "", path, pieces)
        return None
    field, channel, writable = spelled
    if spelled is not _ODD:
        _unsay(raw, field, path, pieces)
    block = Block("text", index=index, channel=channel, writable=writable)
    pieces.append(Piece(PieceKind.START, block=block, owner=path))
    said = raw.get(field)
    if isinstance(said, str) and said:
        block.source.append(said)
        pieces.append(Piece(PieceKind.DELTA, block=block, path=(*path, field), text=said))
    elif said:
        opaque(said, (*path, field), pieces)
    if raw.get("citations") is not None:
        citations(raw["citations"], (*path, "citations"), index, pieces)
    envelope(raw, path, pieces, names=("type",), skip=(field, "citations"))
    return block


def _call(
    raw: dict[str, Any], tool_kind: ToolKind, path: Path, index: int, pieces: list[Piece], slice_of: Slice
) -> Block:
    id, name = raw.get("id"), raw.get("name")
    block = Block("call", index=index, tool_kind=tool_kind)
    block.id = id if isinstance(id, str) else ""
    named = isinstance(name, str)
    block.name = str(name if named else raw["type"] if tool_kind == "unknown" else "")
    place = (*path, "name") if named else ()
    strings_only(raw, "name", path, DELETE, pieces)
    pieces.append(Piece(PieceKind.START, block=block, path=place, text=block.name, owner=path))
    if "input" in raw:
        _arguments(block, (*path, "input"), path, pieces, slice_of((*path, "input")))
    elif tool_kind == "unknown":
        # nobody knows which of its fields are the arguments: all of them
        rest = {key: value for key, value in raw.items() if key not in ("type", "id", "name")}
        _arguments(block, path, path, pieces, dumps(rest))
    read = ["input", *(["name"] if named else []), *(["type"] if _is_name(raw.get("type")) else [])]
    envelope(raw, path, pieces, names=_ENVELOPE, skip=read)
    _unsay(raw, "", path, pieces)
    return block


def _unsay(raw: dict[str, Any], own: str, path: Path, pieces: list[Piece]) -> None:
    """What some clients would join to the texts, in a block of a type that does not say it there, does not leave."""
    pieces.extend(leaves_as((*path, each), DELETE) for each in _SAID if raw.get(each) and each != own)


def _arguments(block: Block, path: Path, owner: Path, pieces: list[Piece], text: str) -> None:
    block.source.append(text)
    pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text, is_json=True, owner=owner))


def beside(block: Block, value: dict[str, Any], path: Path, pieces: list[Piece]) -> None:
    """What an unknown event says of a call is for the call's policies, but no part of its arguments: clients skip it, and
    put together what stands around it. So it is a call of its own; it has no place, and goes where that is forbidden."""
    other = Block("call", index=block.index, id=block.id, name=block.name, tool_kind="unknown")
    text = dumps(value)
    other.source.append(text)
    other.closed = True
    pieces.append(Piece(PieceKind.START, block=other, text=other.name))
    pieces.append(Piece(PieceKind.DELTA, block=other, path=path, text=text, is_json=True))
    pieces.append(Piece(PieceKind.STOP, block=other))
