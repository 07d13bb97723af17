"""Writes a stream of Messages events, with the invariants that brick agent sessions when they are broken.

Indices are monotonic; thinking comes first; after the first tool_use only tool_use; every start has a stop; nothing
after message_delta but message_stop. So what explains a removed call is a text block before the first call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from luthien_guard.errors import IllegalOutput
from luthien_guard.wire.anthropic.blocks import call_kind
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, ReadChunk
from luthien_guard.wire.json_text import DELETE, Raw, dumps
from luthien_guard.wire.splice import patch_chunk
from luthien_guard.wire.sse import canonical

__all__ = ["StreamWriter", "error_of", "is_client_call", "stop_reason_after_removal", "usage_of"]

Item = tuple[bytes, int | None]
_CLIENT: Final = frozenset({"function", "unknown"})

#: state of the stream -> event -> the next state: judges what a policy or the guard itself makes
_TABLE: Final[dict[str, dict[str, str]]] = {
    "new": {"message_start": "between"},
    "between": {"content_block_start": "inside", "message_delta": "finished"},
    "inside": {"content_block_delta": "inside", "content_block_stop": "between"},
    "finished": {"message_stop": "done"},
    "done": {},
}
_ANYWHERE: Final = frozenset({"ping", "error"})


def is_client_call(block: Block) -> bool:
    """True for calls that the client runs: only they have to come last."""
    return block.kind == "call" and block.tool_kind in _CLIENT


class StreamWriter:
    """Implements `Writer` for `stream: true`."""

    def __init__(self, model: str, call_id: str) -> None:
        self._model = model or "unknown"
        self._id = f"msg_{call_id}"
        self._state = "new"
        self._next = 0  # the index of the next block that leaves
        self._open: int | None = None  # the index of the block that is open for the client
        self._places: dict[Any, int | None] = {}  # upstream's index -> the one that leaves; None: the block goes
        self._shifted = False  # indices that leave are not upstream's any more
        self._called = False  # a call of the client's has left
        self._kept = 0
        self._removed = 0
        self._gone: set[str] = set()  # ids of removed server calls: their results go too

    @property
    def finished(self) -> bool:
        return self._state == "done"

    def write(self, chunks: Sequence[ReadChunk]) -> list[Item]:
        out: list[Item] = []
        explanations = [text for block in _removed(chunks) if is_client_call(block) and (text := block.replacement)]
        for read in chunks:
            if read.chunk.kind != "data" or not isinstance(read.chunk.data, dict):
                if read.chunk.raw:
                    out.append((read.chunk.raw, read.source))
                continue
            if explanations and _begins_client_call(read):
                self._explain("\n\n".join(explanations), out)
                explanations = []
            self._event(read, out)
        return out

    def _event(self, read: ReadChunk, out: list[Item]) -> None:
        data = read.chunk.data
        kind = data.get("type")
        changes: dict[Path, Any] = {}
        if kind == "content_block_start":
            if not self._block_start(read, data, changes, out):
                return
        elif kind in ("content_block_delta", "content_block_stop"):
            index = data.get("index")
            if any(piece.block is not None and piece.block.removed for piece in read.pieces):
                self._lose(read, index)  # also a delta that had no start
            place = self._places.get(_hashable(index), index)
            if place is None:
                return
            if place != index:
                changes[("index",)] = place
        self._follow(kind, data, strict=read.source is None)
        self._decided(read.pieces, changes)
        if changes and kind == "content_block_delta" and _says_nothing(read.pieces):
            return
        out.append((patch_chunk(read.chunk, changes), None) if changes else (read.chunk.raw, read.source))

    def _block_start(self, read: ReadChunk, data: dict[str, Any], changes: dict[Path, Any], out: list[Item]) -> bool:
        """Give the block its index, or drop it: False."""
        index = data.get("index")
        call = next((p.block for p in read.pieces if p.kind is PieceKind.START and p.block and p.block.kind == "call"), None)
        raw = data.get("content_block")
        result_of = raw.get("tool_use_id") if isinstance(raw, dict) else None
        if (call is not None and call.removed) or (isinstance(result_of, str) and result_of in self._gone):
            self._places[_hashable(index)] = None
            self._shifted = True
            if call is not None:
                self._drop(call, out)
            return False
        if call is not None:
            self._called = self._called or is_client_call(call)
            self._kept += 1
        place = self._next if self._shifted else index
        self._places[_hashable(index)] = place
        if isinstance(place, int):
            self._next = place + 1
        if place != index:
            changes[("index",)] = place
        return True

    def _lose(self, read: ReadChunk, index: Any) -> None:
        self._places[_hashable(index)] = None
        self._removed += sum(piece.kind is PieceKind.START for piece in read.pieces)

    def _drop(self, call: Block, out: list[Item]) -> None:
        self._removed += 1
        if not is_client_call(call):
            self._gone.add(call.id)
            if call.replacement and not self._called:
                out.append((self._said(call.replacement), None))

    def _explain(self, text: str, out: list[Item]) -> None:
        """Before the first call. Where calls have left already there is no legal place: the record has the reason."""
        if not self._called:
            out.append((self._said(text), None))
            self._shifted = True

    def _decided(self, pieces: Sequence[Piece], changes: dict[Path, Any]) -> None:
        for piece in pieces:
            block = piece.block
            if piece.kind is PieceKind.FINISH:
                reason = stop_reason_after_removal(piece.text, removed=self._removed, kept=self._kept)
                if reason != piece.text:
                    changes[piece.path] = reason
            elif block is not None and block.removed:
                if piece.owner[:1] == ("message",):  # a call that message_start brought along
                    changes[piece.owner] = DELETE
            elif block is not None and block.new_name is not None and piece.kind is PieceKind.START and piece.path:
                changes[piece.path] = block.new_name
            elif piece.out is not None:
                changes[piece.path] = Raw(piece.out or "{}") if piece.is_json else piece.out

    def _follow(self, kind: Any, data: Mapping[str, Any], *, strict: bool) -> None:
        if kind in _ANYWHERE:
            return
        after = _TABLE[self._state].get(kind) if isinstance(kind, str) else None
        if after is None:
            if strict:
                raise IllegalOutput(f"anthropic.messages: {kind} in the state {self._state!r}", policy="", hook="")
            after = _STATE_AFTER.get(kind, self._state) if isinstance(kind, str) else self._state
        if strict and kind == "content_block_start" and self._called and call_kind(_type_of(data)) is None:
            raise IllegalOutput("anthropic.messages: a block that is no call after a call", policy="", hook="")
        self._state = after
        if kind == "content_block_start":
            self._open = self._next - 1
        elif kind == "content_block_stop":
            self._open = None
        elif kind == "message_start":
            self._remember(data)

    def _remember(self, data: Mapping[str, Any]) -> None:
        message = data.get("message")
        if isinstance(message, dict):
            self._model = str(message.get("model") or self._model)

    # -- our own words -------------------------------------------------------------------------------------------------

    def _made(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, **fields}
        self._follow(kind, data, strict=True)
        return canonical(dumps(data).encode(), kind)

    def _said(self, text: str) -> bytes:
        """A whole text block, where upstream's own order leaves room for one."""
        before = self._beginning(None) if self._state == "new" else b""
        if self._state == "inside":
            before = self._made("content_block_stop", index=self._open)
        index, self._next = self._next, self._next + 1
        return b"".join(
            [
                before,
                self._made("content_block_start", index=index, content_block={"type": "text", "text": ""}),
                self._made("content_block_delta", index=index, delta={"type": "text_delta", "text": text}),
                self._made("content_block_stop", index=index),
            ]
        )

    def _beginning(self, usage: Mapping[str, Any] | None) -> bytes:
        message = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_of(usage),
        }
        return self._made("message_start", message=message)

    def end(self, message: str, usage: Mapping[str, Any] | None) -> bytes:
        return b"".join(self._end(message, usage))

    def _end(self, message: str, usage: Mapping[str, Any] | None) -> Iterator[bytes]:
        if self._state == "done":
            return
        if self._state == "new":
            yield self._beginning(usage)
        if self._state == "inside":
            yield self._made("content_block_stop", index=self._open)
        if self._state == "between":
            if not self._called:  # after a call there is no legal place for text
                yield self._said(message)
            reason = "tool_use" if self._called else "end_turn"
            delta = {"stop_reason": reason, "stop_sequence": None}
            yield self._made("message_delta", delta=delta, usage={"output_tokens": usage_of(usage)["output_tokens"]})
        yield self._made("message_stop")

    def fail(self, status: int, code: str, message: str) -> bytes:
        if self._state == "done":
            return b""
        self._state = "done"
        return canonical(dumps(error_of(status, message)).encode(), "error")


_STATE_AFTER: Final = {event: state for row in _TABLE.values() for event, state in row.items()}
_ERRORS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error_of(status: int, message: str) -> dict[str, Any]:
    kind = _ERRORS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def usage_of(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Usage with the two counts that clients insist on."""
    return {"input_tokens": 0, "output_tokens": 0, **(usage or {})}


def stop_reason_after_removal(reason: str, *, removed: int, kept: int) -> str:
    """`tool_use` is only true while a call is left; any other reason is upstream's to say."""
    return "end_turn" if reason == "tool_use" and removed and not kept else reason


def _removed(chunks: Sequence[ReadChunk]) -> list[Block]:
    return [
        piece.block
        for read in chunks
        for piece in read.pieces
        if piece.kind is PieceKind.START and piece.block is not None and piece.block.removed
    ]


def _begins_client_call(read: ReadChunk) -> bool:
    return any(piece.kind is PieceKind.START and piece.block is not None and is_client_call(piece.block) for piece in read.pieces)


def _says_nothing(pieces: Sequence[Piece]) -> bool:
    return bool(pieces) and all(piece.kind is PieceKind.DELTA and piece.out == "" for piece in pieces)


def _type_of(data: Mapping[str, Any]) -> Any:
    block = data.get("content_block")
    return block.get("type") if isinstance(block, dict) else None


def _hashable(index: Any) -> Any:
    return index if isinstance(index, (int, str, float, type(None))) else str(index)
