"""The new arguments of calls that policies changed."""

from __future__ import annotations

from typing import Any

from luthien_guard.errors import IllegalOutput, WireError
from luthien_guard.wire.format import Block, Path, Piece
from luthien_guard.wire.json_text import Raw, loads

__all__ = ["Arguments", "arguments_of"]


def arguments_of(block: Block, text: str) -> str:
    """The new arguments of a changed call, "" read as {}. Raises IllegalOutput where they are not a JSON object."""
    text = (text.strip() and text) or "{}"
    try:
        fits = isinstance(loads(text.encode()), dict)
    except (WireError, UnicodeEncodeError):
        fits = False
    if not fits:
        raise IllegalOutput(
            f"anthropic.messages: the arguments of {block.name!r} are not a JSON object", policy="", hook=""
        )
    return text


class Arguments:
    """Of a stream: which changed calls still have to say theirs."""

    __slots__ = ("_unsaid",)

    def __init__(self) -> None:
        self._unsaid: dict[Any, Block] = {}  # by the key of the block

    def expect(self, block: Block) -> None:
        """A changed call begins."""
        self._unsaid[block.codec.key] = block

    def put(self, piece: Piece, block: Block, out: str, key: Any, changes: dict[Path, Any]) -> None:
        """`out` leaves in the place of `piece`. Arguments that a policy gave whole must be what clients can parse, if they
        were before. Raises IllegalOutput."""
        self._unsaid.pop(key, None)
        if out and block.policed and _is_object(block.text):
            arguments_of(block, out)
        if piece.path[-1] == "partial_json":
            changes[piece.path] = out
        elif piece.path == ("delta",):
            changes[piece.path] = _delta(out)
        elif piece.path == piece.owner:
            raise IllegalOutput(
                f"anthropic.messages: nobody knows how to change {block.name!r}", policy="", hook=""
            )
        else:
            changes[piece.path] = Raw(arguments_of(block, out))

    def owed(self, key: Any) -> dict[str, Any] | None:
        """The delta that a block needs before its stop: that of a changed call which came without any. Raises
        IllegalOutput."""
        block = self._unsaid.pop(key, None)
        if block is None or not (text := block.released_text) or text == block.text:
            return None
        return _delta(arguments_of(block, text))


def _delta(text: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": text}


def _is_object(text: str) -> bool:
    try:
        return isinstance(loads(text.encode()), dict) if text else True
    except (WireError, UnicodeEncodeError):
        return False
