"""Changes in the raw bytes of a chunk: the fast way for the text of a plain delta (`wire.splice` has the sure way)."""

from __future__ import annotations

from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Any, Final

from luthien_guard.events import Chunk
from luthien_guard.wire.format import Path, Piece, PieceKind
from luthien_guard.wire.json_text import LINE_ENDS
from luthien_guard.wire.messages.grammar import EVENT_KINDS

__all__ = ["agreed", "name_of", "replace_text"]

_KEY: Final = b'"text"'  # without its colon: white space may stand before that
_COLON: Final = 0x3A


def replace_text(chunk: Chunk, old: str, new: str) -> bytes | None:
    """The raw bytes of a plain text delta with its text replaced; None where that is not plain to see.

    Sure only for an event that has no keys but those of a text delta: a second `text`, or a key spelled with escapes
    beside one that is not, could stand in any other. In a comment, or in what else clients ignore, it could stand, too.
    """
    raw = chunk.raw
    at = raw.find(_KEY)
    if at < 1 or chunk.ignored or raw[at - 1] == 0x5C or raw.find(_KEY, at + 1) >= 0:
        return None
    begin = at + len(_KEY)
    if raw[begin] != _COLON:
        return None
    begin += 1
    if raw[begin] == 0x20:
        begin += 1
    was = encode_basestring(old).encode()
    if not raw.startswith(was, begin):  # upstream escapes otherwise
        return None
    text = encode_basestring(new)
    if not text.isascii():
        text = text.translate(LINE_ENDS)
    return raw[:begin] + text.encode() + raw[begin + len(was) :]


def agreed(pieces: Sequence[Piece]) -> dict[Path, Any]:
    """The places that leave otherwise than they came, whatever policies say: clients would not agree on them."""
    return {piece.path: piece.value[1] for piece in pieces if piece.kind is PieceKind.DERIVED}


def name_of(chunk: Chunk, kind: Any) -> bytes:
    """The line that names an event whose frame has no name: the SDKs skip that, clients that go by the JSON take it."""
    return b"event: %b\n" % kind.encode() if chunk.event is None and kind in EVENT_KINDS else b""
