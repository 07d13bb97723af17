"""Tool calls put together from their fragments.

Clients merge fragments by index, by id, or by "a new id begins a new call, anything else goes on with the last one"
(and providers send index 0 for every call, no index, no id, ids in every fragment, names twice). Here a call is what
index *and* id say. Wherever some client could merge otherwise the calls of the choice are `irregular`: when a policy
has a say about them they leave canonically, each whole in its first fragment with an index and an id of its own, so
that every rule gives what the policy saw.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from luthien_guard.events import ToolKind
from luthien_guard.wire.format import Block
from luthien_guard.wire.openai_chat.fields import number_of

__all__ = ["CallNotes", "Calls", "payloads_of"]

#: An index past this makes clients allocate; nobody calls so many tools at once.
_INDEX_MAX: Final = 1024
_PAYLOADS: Final[tuple[tuple[str, str, ToolKind], ...]] = (
    ("function", "arguments", "function"),
    ("custom", "input", "custom"),
)


class CallNotes:
    """What the writer has to know of a call (`block.codec`)."""

    __slots__ = ("calls", "canonical", "entries", "index", "names", "out_id", "out_index", "written")

    def __init__(self, calls: Calls, index: int | None) -> None:
        self.calls = calls
        self.index = index  # as upstream spelled it; None where it did not
        self.entries = 0  # fragments
        self.names = 0  # fragments that carried a name
        # the writer's: whether it leaves whole in its first fragment, as what, and how many fragments have left
        self.canonical = False
        self.out_index: int | None = None
        self.out_id: str | None = None
        self.written = 0


class Calls:
    """The calls of one choice, in the order in which they began."""

    __slots__ = ("_invalid", "_last", "_listed", "_past", "blocks", "entries", "irregular")

    def __init__(self, past: Sequence[Block] = ()) -> None:
        self.blocks: list[Block] = []
        self.entries = 0
        self.irregular = False
        self._past = past  # calls of this choice that ended with [DONE]
        self._invalid = False  # an entry had no proper index
        self._last: Block | None = None  # the one that spoke last
        self._listed: Any = None  # the list of entries that it stands in

    def place(
        self, choice: int, entry: dict[str, Any], kind: ToolKind | None, name: Any, listed: Any
    ) -> tuple[Block, bool]:
        """(the call that a fragment belongs to, whether it begins with it). `kind` is None where it does not say;
        `listed` is the list that the fragment stands in."""
        index, id = entry.get("index"), entry.get("id")
        self._invalid |= type(index) is not int or not 0 <= index < _INDEX_MAX
        number = number_of(index, -1) if type(index) in (int, float) else None
        text = id if type(id) is str else ""
        block = self._known(number, text, kind, name, listed)
        new = block is None
        if block is None:
            block = self._begin(choice, number, text, kind or "function")
        elif block is not self._last or number != block.codec.index or (text and text != block.id):
            self.irregular = True
            block.id = block.id or text
        self.entries += 1
        self.irregular |= self._invalid and self.entries > 1
        block.codec.entries += 1
        self._last, self._listed = block, listed
        return block, new

    def begin_whole(self, choice: int, entry: dict[str, Any], kind: ToolKind) -> Block:
        """A call of a body, or the legacy one: no other entry belongs to it."""
        index, id = entry.get("index"), entry.get("id")
        block = Block("call", choice=choice, index=len(self.blocks), tool_kind=kind)
        block.id = id if type(id) is str else ""
        block.codec = CallNotes(self, index if type(index) is int else None)
        self.blocks.append(block)
        return block

    def _begin(self, choice: int, index: int | None, id: str, kind: ToolKind) -> Block:
        for each in self.blocks:
            if each.tool_kind != "legacy":
                self.irregular |= each.codec.index == index or bool(id and each.id == id)
        block = Block("call", choice=choice, index=len(self.blocks), id=id, tool_kind=kind)
        block.codec = CallNotes(self, index)
        for each in self._past:  # a client that reads past [DONE] goes on with it
            if each.tool_kind == kind and each.codec.index == index and each.id in ("", id or each.id):
                block.prefix, block.name = each.text, each.name
        self.blocks.append(block)
        return block

    def _known(self, index: int | None, id: str, kind: ToolKind | None, name: Any, listed: Any) -> Block | None:
        last = self._last
        if last is not None and index is not None and last.codec.index == index and last.tool_kind == kind:
            if not id or id == last.id or not last.id:
                return last
        same = [each for each in reversed(self.blocks) if _may_be(each, kind)]
        if index is not None:
            at = [each for each in same if each.codec.index == index]
            if at and id:
                return next((each for each in at if not each.id or each.id == id), None)
            if at or not id or name:
                return at[0] if at else None
        if id:
            return next((each for each in same if each.id == id), None)
        if last is None or not _may_be(last, kind) or not name:
            return last if last is None or _may_be(last, kind) else None
        # neither index nor id, but a name: one more whole call, unless the last one has this name and is not whole
        return None if listed is self._listed or name != last.name or _is_json(last.text) else last

    def add_name(self, block: Block, name: str) -> None:
        """A name that is repeated counts once; one that comes in fragments is put together."""
        notes = block.codec
        notes.names += 1
        self.irregular |= notes.names > 1
        if not block.name:
            block.name = name
        elif name != block.name:
            block.name += name


def payloads_of(entry: dict[str, Any]) -> list[tuple[str, str, ToolKind | None, Any]]:
    """(member, member of its arguments, kind, payload) of an entry of `tool_calls`: one as a rule. An entry with both
    payloads is two calls to us, because a client may take either. One without any goes on with what it belongs to."""
    found: list[tuple[str, str, ToolKind | None, Any]] = [
        (key, inner, kind, entry[key]) for key, inner, kind in _PAYLOADS if isinstance(entry.get(key), dict)
    ]
    return found or [("function", "arguments", "custom" if entry.get("type") == "custom" else None, None)]


def _may_be(block: Block, kind: ToolKind | None) -> bool:
    return block.tool_kind == kind or (kind is None and block.tool_kind != "legacy")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
