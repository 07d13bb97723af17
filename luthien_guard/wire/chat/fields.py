"""What the fields of a chat message are: the part that streams and bodies share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from luthien_guard.events import Channel
from luthien_guard.wire.foreign import is_foreign_call
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, is_identifier
from luthien_guard.wire.indices import leaves_as, strings_only
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.strings import opaque

__all__ = [
    "CHANNELS",
    "ENVELOPE",
    "Envelope",
    "arguments_piece",
    "failed",
    "follow",
    "logprobs_of",
    "of_one_type",
    "texts_of",
]

#: Which fields of a message or delta are texts, and of which channel.
CHANNELS: Final[dict[str, Channel]] = {
    "content": "content",
    "refusal": "refusal",
    "reasoning_content": "reasoning",
    "reasoning": "reasoning",
    "thinking": "reasoning",
}
#: Strings of the outer object that are identifiers or enumerations.
ENVELOPE: Final = frozenset({"id", "object", "model", "service_tier", "system_fingerprint"})
_SEEN_MAX: Final = 64


class Envelope:
    """The identifiers of one response: each value is looked at once, not in every chunk."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, text: Any, path: Path, pieces: list[Piece], *, owner: Path = ()) -> None:
        """Nothing for what looks like an identifier; anything else is text after all."""
        if type(text) is str:
            if text in self._seen:
                return
            if is_identifier(text):
                if len(self._seen) < _SEEN_MAX:
                    self._seen.add(text)
                return
        if text is not None:
            opaque(text, path, pieces, owner=owner)


def parts_of(content: list[Any], path: Path, pieces: list[Piece]) -> list[tuple[Channel, Path, str]]:
    """(channel, path, text) of the parts of a content that is a list; what is not a text goes to `pieces`."""
    found: list[tuple[Channel, Path, str]] = []
    for at, part in enumerate(content):
        if isinstance(part, str):
            found.append(("content", (*path, at), part))
            continue
        if not isinstance(part, dict) or is_foreign_call(part):
            opaque(part, (*path, at), pieces)
            continue
        kind, text, inner = part.get("type"), part.get("text"), part.get("thinking")
        read = {"type"} if kind in ("text", "thinking") else set[str]()
        if isinstance(text, str):  # whatever its type is: clients that read the text do not look at the type
            found.append(("content", (*path, at, "text"), text))
            read.add("text")
        elif kind == "text":
            strings_only(part, "text", (*path, at), "", pieces)
        if isinstance(inner, list):
            for _, place, said in parts_of(inner, (*path, at, "thinking"), pieces):
                found.append(("reasoning", place, said))
            read.add("thinking")
        opaque({key: value for key, value in part.items() if key not in read}, (*path, at), pieces)
    return found


def texts_of(
    key: str, channel: Channel, content: list[Any], path: Path, pieces: list[Piece]
) -> Iterator[tuple[str, Channel, Path, str]]:
    """(name, channel, path, text) of the texts in the member `key`, of that channel, where it is a list. Of one channel is
    one text, as a string or in parts."""
    for of, place, text in parts_of(content, path, pieces):
        inner = of != channel and channel == "content"
        yield (f"{key}/{of}", of, place, text) if inner else (key, channel, place, text)


def of_one_type(parts: list[Any], path: Path, pieces: list[Piece], *, begun: bool) -> bool:
    """Whether a part that says it is a text has said something, in these or before (`begun`). Behind one, a part of no
    known type leaves as a text, too: clients that skip it would join the texts around it, others read it between them."""
    for at, part in enumerate(parts):
        if type(part) is not dict or type(part.get("text")) is not str or not part["text"]:
            continue
        if part.get("type") == "text":
            begun = True
        elif begun and not is_foreign_call(part):
            pieces.append(leaves_as((*path, at, "type"), "text"))
    return begun


def follow(refusal: Block, content: Block | None, pieces: list[Piece]) -> None:
    """A refusal begins: some clients read it as the rest of the content, which is over then."""
    refusal.follows = content
    if content is not None:
        content.closed = True
        pieces.append(Piece(PieceKind.STOP, block=content))


def arguments_piece(block: Block, value: Any, path: Path, owner: Path) -> Piece:
    """Arguments are a string; some providers send the object itself."""
    is_json = not isinstance(value, str)
    text = dumps(value) if is_json else value
    block.source.append(text)
    return Piece(PieceKind.DELTA, block=block, path=path, text=text, owner=owner, is_json=is_json)


def logprobs_of(value: Any, path: Path, block: Block | None, text: str, pieces: list[Piece]) -> None:
    """Log probabilities repeat the text token by token: derived where they do, text of their own where they say
    something else. The alternatives that they list are text nobody else sees."""
    tokens = value.get("content") if isinstance(value, dict) else None
    if block is None or not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        opaque(value, path, pieces)
        return
    same = "".join(str(token.get("token", "")) for token in tokens) == text
    pieces.append(Piece(PieceKind.DERIVED, block=block, path=path, value="logprobs"))
    for at, token in enumerate(tokens):
        rest = {key: one for key, one in token.items() if not (same and _repeats(key, one))}
        opaque(rest, (*path, "content", at), pieces)
    opaque({key: one for key, one in value.items() if key != "content"}, path, pieces)


def _repeats(key: str, value: Any) -> bool:
    """Where the tokens are the text, they say nothing new, nor do their bytes while these are numbers."""
    return key == "token" or (key == "bytes" and type(value) is list and {*map(type, value)} <= {int})


def failed(error: Any, path: Path, pieces: list[Piece]) -> None:
    """The pieces of an error; one that is empty is none."""
    if not error:
        opaque(error, path, pieces)
        return
    message = error.get("message") if type(error) is dict else error
    text = message if type(message) is str else "an error without a message"
    pieces.append(Piece(PieceKind.FAILED, path=path, text=text))
    if message is not text:
        opaque(message, (*path, "message") if type(error) is dict else path, pieces)
    if type(error) is dict:
        opaque({key: value for key, value in error.items() if key != "message"}, path, pieces)
