"""What may follow what in a stream of Messages events. Broken order bricks agent sessions for good (400 on replay).

One table for the events, three rules for the blocks: one block open at a time; a delta fits its block; after the
first tool_use only tool_use. Upstream's own mistakes are followed, not judged.
"""

from __future__ import annotations

from typing import Any, Final

from luthien_guard.errors import IllegalOutput
from luthien_guard.wire.messages.blocks import call_kind

__all__ = ["EVENT_KINDS", "Grammar"]

#: state -> event -> the next state
_TABLE: Final[dict[str, dict[str, str]]] = {
    "new": {"message_start": "open", "ping": "new", "error": "done"},
    "open": {
        "content_block_start": "open",
        "content_block_delta": "open",
        "content_block_stop": "open",
        "message_delta": "closing",
        "ping": "open",
        "error": "done",
    },
    "closing": {"message_stop": "done", "ping": "closing", "error": "done"},
    "done": {},
}
EVENT_KINDS: Final = frozenset(kind for events in _TABLE.values() for kind in events)
#: Where an event leads that came out of order.
_LEADS: Final = {"message_start": "open", "message_delta": "closing", "message_stop": "done", "error": "done"}
_FITS: Final[dict[str, frozenset[str]]] = {
    "text": frozenset({"text_delta", "citations_delta"}),
    "thinking": frozenset({"thinking_delta", "signature_delta"}),
    "compaction": frozenset({"compaction_delta"}),
}
_CALL: Final = frozenset({"input_json_delta"})


class Grammar:
    """The state of one stream as the client sees it."""

    __slots__ = ("answered", "begun", "called", "open", "state")

    def __init__(self) -> None:
        self.state = "new"
        self.begun = False  # a message_start has left
        self.open: dict[Any, Any] = {}  # index that left -> type of the block
        self.called = False  # a tool_use has left: no text may follow
        self.answered = False  # something other than thinking has left: thinking comes first

    def follow(self, kind: Any, data: dict[str, Any], index: Any = None, *, strict: bool = False) -> None:
        """The event leaves, with this block index. `strict`: raises IllegalOutput where it may not."""
        after = _TABLE[self.state].get(kind)
        if strict:
            self._check(kind, after, data, index)
        self.state = after or _LEADS.get(kind, self.state)
        if kind == "message_start":
            self.begun = True
        elif kind == "content_block_start":
            self.open[index] = of = _type(data, "content_block")
            self.called = self.called or of == "tool_use"
            self.answered = self.answered or of not in ("thinking", "redacted_thinking")
        elif kind == "content_block_stop":
            self.open.pop(index, None)

    def _check(self, kind: Any, after: str | None, data: dict[str, Any], index: Any) -> None:
        if after is None:
            _illegal(f"{kind} in the state {self.state!r}")
        if kind in ("content_block_start", "message_delta") and self.open:
            _illegal(f"{kind} inside of a block")
        if kind == "content_block_start":
            of = _type(data, "content_block")
            if self.called and of != "tool_use":
                _illegal(f"{of} after tool_use")
            if self.answered and of == "thinking":
                _illegal("thinking after the answer has begun")
        elif kind in ("content_block_delta", "content_block_stop"):
            if index not in self.open:
                _illegal(f"{kind} outside of a block")
            of, delta = self.open[index], _type(data, "delta")
            if kind == "content_block_delta" and not _fits(delta, of):
                _illegal(f"{delta} in a block of type {of}")


def _fits(delta: Any, of: Any) -> bool:
    if not isinstance(of, str):
        return False
    fitting = _FITS.get(of)
    return delta in (_CALL if fitting is None and call_kind(of) else fitting or ())


def _type(data: dict[str, Any], key: str) -> Any:
    inner = data.get(key)
    return inner.get("type") if isinstance(inner, dict) else None


def _illegal(what: str) -> None:
    raise IllegalOutput(f"anthropic.messages: {what}", policy="", hook="")
