"""From decided pieces to changes of a chunk's JSON; the same for a chunk of a stream and for a body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.json_text import DELETE, Raw

__all__ = ["ChoiceOut", "changes_of", "is_touched", "says_nothing"]

Changes = dict[Path, Any]


class ChoiceOut:
    """What has left of one choice."""

    __slots__ = ("begun", "finished", "ids", "kept", "removed", "role", "said")

    def __init__(self) -> None:
        self.role = False
        self.said = False  # some content
        self.finished = False
        self.kept = 0  # calls, without the legacy one
        self.removed = False  # a call
        self.ids: set[str] = set()
        self.begun: set[int] = set()  # indices of calls that have left


def is_touched(pieces: Sequence[Piece]) -> bool:
    """True when somebody decided something about a chunk, or may have to (calls that a policy covers)."""
    for piece in pieces:
        block = piece.block
        if piece.out is not None or (block is not None and (block.changed or block.removed or block.policed)):
            return True
        if piece.kind is PieceKind.FINISH and any(each.removed for each in piece.value.calls.blocks):
            return True
    return False


def changes_of(read: ReadChunk, choices: dict[int, ChoiceOut], made_id: str) -> Changes:
    """The changes of one chunk. `made_id` is what ids of our own begin with."""
    changes: Changes = {}
    said: dict[Path, list[str]] = {}
    for piece in read.pieces:
        block = piece.block
        if piece.kind is PieceKind.FINISH:
            _finish(piece, changes)
        elif block is None:
            continue
        elif block.kind == "call":
            out = choices.setdefault(block.choice, ChoiceOut())
            _call(read.chunk.data, piece, block, out, changes, made_id)
            if block.removed and block.replacement and piece.kind is PieceKind.START:
                said.setdefault(piece.owner[:3], []).append(block.replacement)
        elif piece.kind is PieceKind.DERIVED:
            _derived(piece, block, changes)
        elif piece.out is not None:
            changes[piece.path] = value_out(piece)
    _drop_empty_lists(read.chunk.data, changes)
    for message, texts in said.items():
        number = next(piece.block.choice for piece in read.pieces if piece.block and piece.owner[:3] == message)
        _say(at(read.chunk.data, message), message, texts, choices[number], changes)
    return changes


def value_out(piece: Piece) -> Any:
    """The new value of a piece: a string, or JSON where JSON stood."""
    return Raw(piece.out or "{}") if piece.is_json else piece.out


def at(data: Any, path: Path) -> Any:
    for key in path:
        data = data[key]
    return data


def _derived(piece: Piece, block: Block, changes: Changes) -> None:
    """What repeats a text in another way."""
    if isinstance(piece.value, Piece):  # the same text once more in the same chunk
        if piece.value.out is not None:
            changes[piece.path] = piece.value.out
    elif block.changed:
        changes[piece.path] = DELETE if piece.value == "details" else None


def _finish(piece: Piece, changes: Changes) -> None:
    """A finish reason that says "calls" is true while a call is left; any other is upstream's to say."""
    calls = piece.value.calls.blocks
    if calls and piece.text in ("tool_calls", "function_call") and all(block.removed for block in calls):
        changes[piece.path] = "stop"


# -- calls -------------------------------------------------------------------------------------------------------------


def _call(data: Any, piece: Piece, block: Block, out: ChoiceOut, changes: Changes, made_id: str) -> None:
    notes = block.codec
    if piece.kind is PieceKind.START:
        _begin(block, out, made_id)
    if block.removed:
        if piece.owner:
            changes[piece.owner] = DELETE
    elif piece.value == "entry":
        notes.written += 1
        if notes.canonical and notes.written > 1:
            changes[piece.owner] = DELETE
        elif notes.canonical:
            _whole(at(data, piece.owner), piece.owner, block, changes)
        elif notes.out_index is not None:
            changes[(*piece.owner, "index")] = notes.out_index
    elif notes.canonical and notes.entries > 1:
        return  # said by the first fragment
    elif piece.value == "name":
        if block.new_name is not None:
            changes[piece.path] = block.new_name
    elif piece.out is not None:
        changes[piece.path] = value_out(piece)


def _begin(block: Block, out: ChoiceOut, made_id: str) -> None:
    """Decide the index and the id that a call leaves with: calls leave in order, so all before it are decided."""
    notes = block.codec
    if block.removed:
        out.removed = True
        return
    calls = notes.calls
    notes.canonical = calls.irregular and any(each.policed or each.removed for each in calls.blocks)
    if block.tool_kind == "legacy":
        return
    place, out.kept = out.kept, out.kept + 1
    if notes.canonical:
        notes.out_index = place
        notes.out_id = _own_id(block, out.ids, f"{made_id}_{block.choice}_{place}")
    elif out.removed and notes.index not in (None, place):
        notes.out_index = place
    index = notes.index if notes.out_index is None else notes.out_index
    out.begun.add(place if index is None else index)


def _own_id(block: Block, taken: set[str], made: str) -> str:
    id = block.id
    if id in taken or (not id and len(block.codec.calls.blocks) > 1):
        id = made
    taken.add(id)
    return id


def _whole(entry: dict[str, Any], owner: Path, block: Block, changes: Changes) -> None:
    """Put the whole call into its first fragment."""
    notes = block.codec
    payload_at = owner
    if block.tool_kind != "legacy":
        payload_at = (*owner, "custom" if block.tool_kind == "custom" else "function")
        _put(entry, "index", notes.out_index, owner, changes)
        if notes.out_id:
            _put(entry, "id", notes.out_id, owner, changes)
    if notes.entries == 1:
        return
    name = block.new_name or block.name
    arguments = block.released_text if block.released else block.text
    payload = entry if payload_at == owner else entry.get(payload_at[-1])
    inner = "input" if block.tool_kind == "custom" else "arguments"
    if isinstance(payload, dict):
        _put(payload, "name", name, payload_at, changes)
        _put(payload, inner, arguments, payload_at, changes)
    else:
        changes[payload_at] = {"name": name, inner: arguments}


def _put(value: dict[str, Any], key: str, new: Any, path: Path, changes: Changes) -> None:
    if key not in value or type(value[key]) is not type(new) or value[key] != new:
        changes[(*path, key)] = new


def _drop_empty_lists(data: Any, changes: Changes) -> None:
    """A list of calls all of whose entries go, goes itself: clients take an empty one for a promise."""
    gone: dict[Path, int] = {}
    for path, value in changes.items():
        if value is DELETE and len(path) > 1 and path[-2] == "tool_calls":
            gone[path[:-1]] = gone.get(path[:-1], 0) + 1
    for path, count in gone.items():
        if count == len(at(data, path)):
            for place in [place for place in changes if place[: len(path)] == path]:
                del changes[place]
            changes[path] = DELETE


# -- what stands in the place of a call --------------------------------------------------------------------------------


def _say(message: Any, path: Path, texts: list[str], out: ChoiceOut, changes: Changes) -> None:
    """Put explanations behind the content of the message or delta that the calls stood in."""
    place = (*path, "content")
    content = message.get("content")
    if isinstance(content, list):
        changes[(*place, len(content))] = {"type": "text", "text": "\n\n".join(texts)}
        return
    content = changes.get(place, content)
    before = content if isinstance(content, str) else ""
    lead = "\n\n" if out.said and not before else ""
    changes[place] = lead + "\n\n".join(text for text in (before, *texts) if text)
    out.said = True


def says_nothing(read: ReadChunk, changes: Changes, *, role_left: bool) -> bool:
    """True for a chunk that carried only what was removed: it need not leave."""
    gone = [path for path, value in changes.items() if value is DELETE]
    if not gone or len(gone) != len(changes):
        return False
    for piece in read.pieces:
        if piece.kind in (PieceKind.START, PieceKind.STOP, PieceKind.DERIVED):
            continue
        if not any(piece.path[: len(path)] == path for path in gone):
            return False
    choices = read.chunk.data["choices"]
    deltas = [choice.get("delta") for choice in choices if isinstance(choice, dict)]
    return role_left or not any(isinstance(delta, dict) and delta.get("role") for delta in deltas)
