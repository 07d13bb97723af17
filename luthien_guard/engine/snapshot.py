"""A response put together for the record: as it came, and as it left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from luthien_guard.events import ContentCompleted, ResponseCompleted, ToolCall
from luthien_guard.wire.format import Block, PieceKind, ReadChunk

if TYPE_CHECKING:
    from luthien_guard.engine.leaving import Leaving
    from luthien_guard.engine.state import ResponseState
    from luthien_guard.engine.transcript import Transcript

__all__ = ["completed", "half_left", "received", "released", "unsent"]

_NO_CALLS: Final = {"tool_calls": "stop", "function_call": "stop", "tool_use": "end_turn"}
Texts = Callable[[Block], str | None]


def received(response: ResponseState | Transcript) -> dict[str, Any]:
    """Everything that upstream said: {"model", "choices": [{"choice", "texts": [{"channel", "index", "text"}],
    "tool_calls": [{"id", "name", "arguments", "kind"}], "finish_reason"}], "usage"}."""
    return _assembled(response, lambda block: block.text, lambda block: block.name)


def released(
    response: ResponseState, as_it_left: Leaving | None = None, *, said: str | None = None
) -> dict[str, Any]:
    """The same for what went to the client; `said` is what the guard added to end a blocked answer. `as_it_left`: what
    left, read again, where a policy changed chunks at the very end."""
    queued = response.unsent or unsent(response.queue)
    found = _of_blocks(response, queued) if as_it_left is None else _as_it_left(response, as_it_left)
    gone = [block for block in response.blocks if block.removed and block.replacement]
    found["said"] = [block.replacement for block in gone if id(block) not in queued]
    if said is not None:
        found["said"].append(said)
    return found


def _as_it_left(response: ResponseState, leaving: Leaving) -> dict[str, Any]:
    undone = unsent(leaving.undone)
    return _assembled(
        leaving.transcript,
        lambda block: _left(block, undone) if response.left else None,
        lambda block: block.name,
    )


def _of_blocks(response: ResponseState, queued: Mapping[int, int | None]) -> dict[str, Any]:
    found = _assembled(
        response,
        lambda block: _left(block, queued) if response.left else None,
        lambda block: block.new_name or block.name,
    )
    for choice in found["choices"]:
        _retold(choice, response.blocks)
    return found


def unsent(queue: Iterable[ReadChunk]) -> dict[int, int | None]:
    """The blocks (by their id()) that begin or go on in the queue, and how many deltas of each are there; None for one that
    begins there."""
    found: dict[int, int | None] = {}
    for read in queue:
        for piece in read.pieces:
            if piece.kind is PieceKind.START:
                found[id(piece.block)] = None
            elif piece.kind is PieceKind.DELTA and piece.text:
                deltas = found.get(id(piece.block), 0)
                found[id(piece.block)] = None if deltas is None else deltas + 1
    return found


def half_left(block: Block, queued: Mapping[int, int | None]) -> bool:
    """Whether it is a call that has begun to leave, and whose rest is in the queue or never came."""
    if block.kind != "call" or block.removed or queued.get(id(block), 0) is None:
        return False
    return not block.closed or id(block) in queued


def _left(block: Block, queued: Mapping[int, int | None]) -> str | None:
    """The text of the block that left; None for a call that did not. Parts leave in the order in which they came."""
    waiting = queued.get(id(block), 0)
    if block.removed or (block.kind == "call" and waiting is None):
        return None
    if waiting is None:
        return ""
    came = [part for part in block.source if part]
    # what is known of a call as decided is all of it at once
    as_it_came = block.kind == "call" and not block.changed
    parts = came if as_it_came else block.released or came
    return "".join(parts[: len(came) - waiting] if waiting else parts)


def _retold(choice: dict[str, Any], blocks: Iterable[Block]) -> None:
    """A finish reason that says "calls" left as "the end" when no call was left."""
    removed = any(block.removed for block in blocks if block.choice == choice["choice"])
    if removed and not choice["tool_calls"] and choice.get("finish_reason") in _NO_CALLS:
        choice["finish_reason"] = _NO_CALLS[choice["finish_reason"]]


def _assembled(
    response: ResponseState | Transcript, text_of: Texts, name_of: Callable[[Block], str]
) -> dict[str, Any]:
    choices: dict[int, dict[str, Any]] = {}
    for block in response.blocks:
        text = text_of(block)
        if text is None:
            continue
        choice = choices.setdefault(block.choice, {"choice": block.choice, "texts": [], "tool_calls": []})
        if block.kind == "text":
            choice["texts"].append({"channel": block.channel, "index": block.index, "text": text})
        else:
            call = {"id": block.id, "name": name_of(block), "arguments": text, "kind": block.tool_kind}
            choice["tool_calls"].append(call)
    for number, reason in response.finish_reasons.items():
        if number in choices:
            choices[number]["finish_reason"] = reason
    usage: Mapping[str, Any] | None = response.usage
    return {
        "model": response.reader.model,
        "choices": [choices[at] for at in sorted(choices)],
        "usage": dict(usage) if usage else None,
    }


def completed(response: ResponseState, others: Iterable[ContentCompleted]) -> ResponseCompleted:
    """The response as it leaves, assembled; `others`: what the wire format does not model."""
    kept = [block for block in response.blocks if not block.removed]
    return ResponseCompleted(
        status=response.status,
        model=response.reader.model,
        id=response.reader.id,
        content=(*(_content(block) for block in kept if block.kind == "text"), *others),
        tool_calls=tuple(_call(block) for block in kept if block.kind == "call"),
        finish_reasons=tuple(response.finish_reasons[at] for at in sorted(response.finish_reasons)),
        usage=dict(response.usage or {}),
    )


def _content(block: Block) -> ContentCompleted:
    text = block.released_text if block.released else block.text
    return ContentCompleted(text, block.channel, block.choice, block.index, block.writable)


def _call(block: Block) -> ToolCall:
    return ToolCall(
        block.id,
        block.new_name or block.name,
        block.released_text if block.released else block.text,
        block.tool_kind,
        block.choice,
        block.index,
        complete=block.closed,
    )
