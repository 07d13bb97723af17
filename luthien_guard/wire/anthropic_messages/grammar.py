"""The legal order of a Messages stream, as tables.

It judges what a policy or the guard itself makes (`strict`); what upstream sends only moves it on. Where the order of
blocks is broken, agents keep the broken answer in their history and every later request of theirs is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from luthien_guard.errors import IllegalOutput

__all__ = ["Grammar", "check_body"]

#: state of the message -> event -> the next state
_TABLE: Final = {
    "new": {"message_start": "open", "error": "done"},
    "open": {
        "content_block_start": "open",
        "content_block_delta": "open",
        "content_block_stop": "open",
        "message_delta": "ending",
        "error": "done",
    },
    "ending": {"message_stop": "done", "error": "done"},
    "done": {},
}
#: Where upstream goes its own way, the state that its event leads to all the same.
_ANYWAY: Final = {"message_start": "open", "message_delta": "ending", "message_stop": "done", "error": "done"}

#: type of a block -> the deltas that fit it; calls have the last, and blocks that nobody knows have any.
_DELTAS: Final = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "redacted_thinking": set[str](),
    "compaction": {"compaction_delta"},
}
_CALL_DELTAS: Final = {"input_json_delta"}
_THINKING: Final = frozenset({"thinking", "redacted_thinking"})


class Grammar:
    """Where the message that leaves stands."""

    def __init__(self) -> None:
        self.state = "new"
        self.count = 0  # blocks that have begun: the index of the next
        self.open: dict[int, str] = {}  # index -> type of the block
        self.called = False  # a tool_use has begun: no text may follow
        self._spoken = False  # something other than thinking has begun

    def event(self, kind: Any, *, strict: bool) -> None:
        """An event of the message."""
        if kind == "ping":
            return
        after = _TABLE[self.state].get(kind) if type(kind) is str else None
        if after is None and strict:
            raise _illegal(f"{str(kind)[:60]!r} where the message is {self.state}")
        if strict and kind == "message_delta" and self.open:
            raise _illegal("message_delta inside a content block")
        self.state = after or _ANYWAY.get(str(kind), self.state)

    def begin(self, kind: str, *, strict: bool) -> int:
        """A content block begins; its index."""
        self.event("content_block_start", strict=strict)
        if strict and self.open:
            raise _illegal("a content block begins inside another")
        if strict:
            _check_order(kind, self.called, self._spoken)
        self.called = self.called or kind == "tool_use"
        self._spoken = self._spoken or kind == "text" or kind == "tool_use"
        index, self.count = self.count, self.count + 1
        self.open[index] = kind
        return index

    def delta(self, index: Any, kind: Any) -> None:
        """A delta that a policy made."""
        self.event("content_block_delta", strict=True)
        block = self.open.get(index) if type(index) is int else None
        if block is None:
            raise _illegal(f"a delta for content block {index}, which is not open")
        fitting = _CALL_DELTAS if block.endswith("tool_use") else _DELTAS.get(block)
        if fitting is not None and kind not in fitting:
            raise _illegal(f"a {str(kind)[:60]} in a block of type {block}")

    def end(self, index: Any, *, strict: bool) -> None:
        """A content block ends."""
        self.event("content_block_stop", strict=strict)
        if strict and (type(index) is not int or index not in self.open):
            raise _illegal(f"a stop for content block {index}, which is not open")
        self.open.pop(index, None)

    def whole(self, kinds: Iterable[str]) -> None:
        """Blocks that stand whole in `message_start`."""
        for kind in kinds:
            del self.open[self.begin(kind, strict=False)]


def check_body(data: Any) -> None:
    """The same for a body that a policy made."""
    if not isinstance(data, dict) or data.get("type") == "error":
        return
    content = data.get("content")
    kinds = [block.get("type") for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    if not isinstance(content, list) or len(kinds) != len(content):
        raise _illegal("a message whose content is no list of blocks")
    called = spoken = False
    for kind in kinds:
        _check_order(str(kind), called, spoken)
        called = called or kind == "tool_use"
        spoken = spoken or kind in ("text", "tool_use")
    if data.get("stop_reason") == "tool_use" and not called:
        raise _illegal("stop_reason is tool_use and there is none")
    if not isinstance(data.get("usage"), dict):
        raise _illegal("a message without usage")


def _check_order(kind: str, called: bool, spoken: bool) -> None:
    if called and kind != "tool_use":
        raise _illegal(f"a block of type {kind[:60]} after a tool_use")
    if spoken and kind in _THINKING:
        raise _illegal("thinking that does not come first")


def _illegal(what: str) -> IllegalOutput:
    return IllegalOutput(f"anthropic.messages: {what}", policy="", hook="")
