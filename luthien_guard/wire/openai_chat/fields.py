"""What the fields of a chat completion are, and how those that are no texts and no calls are accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.events import Channel
from luthien_guard.wire.format import Block, Path, Piece, PieceKind, is_identifier
from luthien_guard.wire.strings import opaque, strings_in

__all__ = [
    "CHANNELS",
    "ENVELOPE",
    "FILLER",
    "FILTERS",
    "Envelope",
    "add_error",
    "add_filters",
    "add_logprobs",
    "add_text_once",
    "content_parts",
    "mirrors",
    "number_of",
]

#: Which members of a message or a delta are texts, and of which channel.
CHANNELS: Final[Mapping[str, Channel]] = {
    "content": "content",
    "refusal": "refusal",
    "reasoning_content": "reasoning",
    "reasoning": "reasoning",
    "thinking": "reasoning",
}
#: Strings of the outer object that are identifiers. (`provider`: OpenRouter's.)
ENVELOPE: Final = frozenset({"id", "object", "model", "service_tier", "system_fingerprint", "provider"})
#: Random characters against traffic analysis: `obfuscation` is OpenAI's, `p` Mistral's.
FILLER: Final = frozenset({"obfuscation", "p"})
#: Azure's verdicts; their only strings are severities.
FILTERS: Final = frozenset({"content_filter_results", "prompt_filter_results"})
_SEVERITIES: Final = frozenset({"safe", "low", "medium", "high"})
_SEEN_MAX: Final = 64


class Envelope:
    """The identifiers of one response: each value is looked at once, not in every chunk."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, value: Any, path: Path, pieces: list[Piece], *, owner: Path = ()) -> None:
        """Nothing for what looks like an identifier; anything else is text after all."""
        if type(value) is str:
            if value in self._seen:
                return
            if is_identifier(value):
                if len(self._seen) < _SEEN_MAX:
                    self._seen.add(value)
                return
        if value is not None:
            opaque(value, path, pieces, owner=owner)


def number_of(index: Any, at: int) -> int:
    """The number of a choice. 1.0 is 1 to a JavaScript client; what is no number counts by its place in the list."""
    if type(index) is int:
        return index
    return int(index) if type(index) is float and index.is_integer() else at


def content_parts(content: list[Any], path: Path, pieces: list[Piece]) -> list[tuple[Channel, Path, str]]:
    """(channel, path, text) of the parts of a content that is a list (Mistral); everything else in it is OPAQUE."""
    found: list[tuple[Channel, Path, str]] = []
    for at, part in enumerate(content):
        place = (*path, at)
        if isinstance(part, str):
            found.append(("content", place, part))
        elif not isinstance(part, dict):
            opaque(part, place, pieces)
        elif part.get("type") == "text" and isinstance(part.get("text"), str):
            found.append(("content", (*place, "text"), part["text"]))
            _rest(part, ("type", "text"), place, pieces)
        elif part.get("type") == "thinking" and isinstance(part.get("thinking"), list):
            inner = content_parts(part["thinking"], (*place, "thinking"), pieces)
            found += [("reasoning", where, text) for _, where, text in inner]
            _rest(part, ("type", "thinking"), place, pieces)
        else:
            opaque(part, place, pieces)
    return found


def _rest(value: dict[str, Any], known: tuple[str, ...], path: Path, pieces: list[Piece]) -> None:
    if len(value) > len(known):
        opaque({key: each for key, each in value.items() if key not in known}, path, pieces)


def add_logprobs(
    value: Any, path: Path, texts: Mapping[str, Block], said: Mapping[str, Piece], pieces: list[Piece]
) -> None:
    """Log probabilities repeat the text token by token: DERIVED of the block that it is of. Tokens that do not add up
    to the text of this chunk, and the alternatives to each token, are text that nobody else sees.

    `texts` and `said` have the blocks, and the DELTA pieces of this chunk, by the member that they stand in."""
    if not isinstance(value, dict):
        opaque(value, path, pieces)
        return
    for key, tokens in value.items():
        delta, place = said.get(key), (*path, key)
        if key in texts and tokens:
            pieces.append(Piece(PieceKind.DERIVED, block=texts[key], path=place, value="logprobs"))
        if not isinstance(tokens, list) or key not in ("content", "refusal"):
            opaque({key: tokens}, path, pieces)
        elif delta is not None and _joined(tokens) == delta.text:
            for at, token in enumerate(tokens):
                opaque({one: token[one] for one in token if one != "token"}, (*place, at), pieces)
        else:
            opaque(tokens, place, pieces)


def _joined(tokens: list[Any]) -> str | None:
    texts = [token.get("token") if isinstance(token, dict) else None for token in tokens]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None  # type: ignore[arg-type]


def add_filters(value: Any, path: Path, pieces: list[Piece]) -> None:
    """Content filter results: a severity is an enumeration, any other string is not."""
    for place, text in strings_in(value, path):
        if not (place[-1] == "severity" and text in _SEVERITIES):
            pieces.append(Piece(PieceKind.OPAQUE, path=place, text=text))


def add_error(error: Any, path: Path, pieces: list[Piece]) -> None:
    """A FAILED piece with the message (whose text the engine inspects), OPAQUE ones for the rest."""
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str):
        pieces.append(Piece(PieceKind.FAILED, path=path, text="an error without a message"))
        opaque(error, path, pieces)
        return
    place = (*path, "message") if isinstance(error, dict) else path
    pieces.append(Piece(PieceKind.FAILED, path=place, text=message))
    if isinstance(error, dict):
        _rest(error, ("message",), path, pieces)


def mirrors(value: Any, delta: Piece | None) -> bool:
    """True for a string that says what `delta` says."""
    return delta is not None and type(value) is str and value == delta.text


def add_text_once(block: Block, path: Path, text: str, pieces: list[Piece]) -> None:
    """A block that begins, speaks and ends in one place."""
    block.closed = True
    block.source.append(text)
    pieces.append(Piece(PieceKind.START, block=block))
    pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text))
    pieces.append(Piece(PieceKind.STOP, block=block))
