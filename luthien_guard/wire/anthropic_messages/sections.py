"""The content blocks of a message: what reader and writer know of each of them together."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from luthien_guard.events import ToolKind
from luthien_guard.wire.format import Block, Path

__all__ = ["CLIENT_KINDS", "Ended", "Section", "is_known", "section_of", "tool_kind"]

#: Calls that the client runs: while one is left, `stop_reason: tool_use` is true.
CLIENT_KINDS: Final[frozenset[ToolKind]] = frozenset({"function", "computer", "unknown"})

_TOOLS: Final[dict[str, ToolKind]] = {
    "tool_use": "function",
    "server_tool_use": "server",
    "mcp_tool_use": "mcp",
}
_KNOWN: Final = frozenset({"text", "thinking", "redacted_thinking", "container_upload", "compaction", "fallback"})
#: Which delta carries the text of which block, and under which key. Every call has the same.
_DELTAS: Final = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
_CALL_DELTA: Final = ("input_json_delta", "partial_json")


def tool_kind(kind: str) -> ToolKind | None:
    """What kind of call a content block of this type is; None where it is none."""
    known = _TOOLS.get(kind)
    if known is None and kind.endswith(("_tool_use", "_call")):
        return "unknown"
    return known


def is_known(kind: str) -> bool:
    """True for the types of content blocks that this format models or knows to be no text of the answer."""
    return kind in _KNOWN or kind.endswith("_tool_result") or tool_kind(kind) is not None


class Section:
    """One content block of the message, be it text, call, or something that is only carried along.

    The reader hangs it on a piece of every chunk of the content block (`piece.value`); the writer notes on it where
    it stands in the message that leaves.
    """

    __slots__ = (
        "block",
        "calls",
        "delta",
        "explained",
        "gone",
        "index",
        "key",
        "kind",
        "out",
        "path",
        "place",
        "said",
        "same",
        "start",
        "stopped",
    )

    def __init__(self, kind: str, index: Any, place: Path, block: Block | None) -> None:
        self.kind = kind  # its `type`
        self.index = index  # as upstream spelled it
        self.place = place  # of the content block in the JSON of its first chunk
        self.block = block
        self.calls: tuple[Block, ...] = ()  # whose result this is
        self.start: dict[str, Any] | None = None  # the content block that upstream should have begun with, but did not
        self.delta, self.key = _CALL_DELTA if block is not None and block.kind == "call" else _DELTAS.get(kind, ("", ""))
        self.path: Path = ("delta", self.key)
        # -- the writer's ----------------------------------------------------------------------------------------
        self.out: int | None = None  # index in the message that leaves
        self.same = False  # chunks may leave as they came: begun, not stopped, under the index that they carry
        self.said = False  # some of its text has left
        self.gone = False  # no byte of it leaves
        self.stopped = False
        self.explained = False  # what replaces the call has been said

    @property
    def is_removed(self) -> bool:
        """The block is removed, or it is the result of a call that is."""
        if self.block is not None and self.block.removed:
            return True
        return any(call.removed for call in self.calls)

    @property
    def is_call(self) -> bool:
        return self.block is not None and self.block.kind == "call"

    @property
    def is_client_call(self) -> bool:
        return self.block is not None and self.block.kind == "call" and self.block.tool_kind in CLIENT_KINDS


class Ended(NamedTuple):
    """Value of a piece: the section ends here, and upstream never says so."""

    section: Section


def section_of(pieces: Any) -> Section | None:
    """The section that the chunk of these pieces belongs to."""
    for piece in pieces:
        if piece.value.__class__ is Section:
            return piece.value  # type: ignore[no-any-return]
    return None
