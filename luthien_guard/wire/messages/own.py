"""Our own words in a stream of Messages events, said so that the stream stays legal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.messages.grammar import Grammar
from luthien_guard.wire.messages.made import error_of, message_of, usage_of
from luthien_guard.wire.sse import canonical

__all__ = ["OwnEvents"]


class OwnEvents:
    """Makes events for one stream, of which the grammar sees everything that leaves."""

    __slots__ = ("_id", "_next", "grammar", "model")

    def __init__(self, model: str, call_id: str) -> None:
        self.model = model or "unknown"
        self.grammar = Grammar()
        self._id = f"msg_{call_id}"
        self._next = 0  # the index of the next block that leaves

    def take_index(self, count: int = 1) -> int:
        """The index of a block that leaves; of the first, where there are more."""
        index, self._next = self._next, self._next + count
        return index

    def event(self, kind: str, index: int | None = None, *, strict: bool = False, **fields: Any) -> bytes:
        data = {"type": kind, **({} if index is None else {"index": index}), **fields}
        self.grammar.follow(kind, data, index, strict=strict)
        return canonical(dumps(data).encode(), kind)

    def explanation(self, text: str) -> bytes:
        """A text block. Where a tool_use has left there is no legal place for one: the record has the reason."""
        return b"" if self.grammar.called else self._begun(None) + self._text(text)

    def _text(self, text: str) -> bytes:
        index = self.take_index()
        return (
            self.event("content_block_start", index, content_block={"type": "text", "text": ""})
            + self.event("content_block_delta", index, delta={"type": "text_delta", "text": text})
            + self.event("content_block_stop", index)
        )

    def _begun(self, usage: Mapping[str, Any] | None) -> bytes:
        if self.grammar.state != "new":
            return b""
        return self.event("message_start", message=message_of(self._id, self.model, usage, None))

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        if self.grammar.state == "done":
            return b""
        said = [self._begun(usage)]
        if self.grammar.state == "open":
            called = self.grammar.called
            said += self._closed(message if called else "")
            if not called:
                said.append(self._text(message))
            # The client has to answer the calls that left, or the provider refuses the session from then on. No text may
            # begin after them, so only the record has the reason.
            delta = {"stop_reason": "tool_use" if called else "end_turn", "stop_sequence": None}
            counts = {"output_tokens": usage_of(usage)["output_tokens"]}
            said.append(self.event("message_delta", strict=True, delta=delta, usage=counts))
        said.append(self.event("message_stop", strict=True))
        return b"".join(said)

    def _closed(self, message: str) -> list[bytes]:
        """The ends of the open blocks. A text of upstream's behind a call, which a client has already, says the message:
        an empty one would be refused with the next request."""
        said: list[bytes] = []
        for index, kind in list(self.grammar.open.items()):
            if message and kind == "text":
                delta = {"type": "text_delta", "text": f"\n\n{message}"}
                said.append(self.event("content_block_delta", index, delta=delta))
                message = ""
            said.append(self.event("content_block_stop", index))
        return said

    def fail(self, status: int, message: str) -> bytes:
        if self.grammar.state == "done":
            return b""
        return self.event("error", strict=True, error=error_of(status, message)["error"])
