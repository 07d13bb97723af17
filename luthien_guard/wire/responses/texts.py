"""Texts of messages and of reasoning: deltas, their repeats, citations and probabilities."""

from __future__ import annotations

from typing import Any, cast

from luthien_guard.events import Channel
from luthien_guard.wire.foreign import is_foreign_call, without_calls
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.indices import strings_only
from luthien_guard.wire.json_text import DELETE
from luthien_guard.wire.responses.items import Item
from luthien_guard.wire.responses.shown import fields, show
from luthien_guard.wire.responses.starts import Start
from luthien_guard.wire.responses.tables import DELTAS, PART, PARTS, VOICES
from luthien_guard.wire.strings import strings_in

__all__ = [
    "citations",
    "delta",
    "is_apart",
    "is_begun",
    "logprobs",
    "own_text",
    "part",
    "repeat",
    "says_apart",
]

_CITATIONS = frozenset({"url_citation", "file_citation", "container_file_citation", "file_path"})


def text_of(item: Item, key: tuple[str, Any], channel: Channel, pieces: list[Piece]) -> Block:
    """The block of one text of the item, begun if it is new or if the last one is closed."""
    block = item.texts.get(key)
    if block is None or block.closed:
        writable = not (channel == "reasoning" and item.signed)
        block = item.texts[key] = Block("text", index=item.index, channel=channel, writable=writable)
        block.codec = item
        item.joined.begin(key[0], block, pieces)
        pieces.append(Piece(PieceKind.START, block=block))
    return block


def delta(
    item: Item, key: tuple[str, Any], channel: Channel, text: str, path: Path, pieces: list[Piece]
) -> Block:
    block = text_of(item, key, channel, pieces)
    item.joined.go_on(key[0], block)
    block.source.append(text)
    pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text))
    return block


def _start(
    item: Item, key: tuple[str, Any], channel: Channel, text: str, path: Path, pieces: list[Piece]
) -> Block:
    """The first words of a text, where it is announced: they leave as a delta, and so they are read."""
    joined, voice = item.joined, item.voices.setdefault(key[0], VOICES[key[0]])
    announced, joined.reading = joined.reading, voice
    block = delta(item, key, channel, text, path, pieces)
    joined.reading = announced
    pieces[-1].value = Start(voice, DELTAS[voice].part, key[1])
    return block


def repeat(
    item: Item, key: tuple[str, Any], channel: Channel, text: str, path: Path, pieces: list[Piece]
) -> Block | None:
    """A text as a whole: the first that is heard of it, an echo, or something else."""
    if not text:
        return None
    block = item.texts.get(key)
    if block is None or not block.source:
        begin = _start if item.joined.reading.endswith(".added") else delta
        return begin(item, key, channel, text, path, pieces)
    for known in (block if block.text == text else None, item.others.get((key, text))):
        if known is not None and item.joined.repeats(key[0], known):
            item.joined.go_on(key[0], known)
            pieces.append(Piece(PieceKind.ECHO, block=known, path=path, text=text))
            return known
    own: list[Piece] = []
    other = own_text(channel, text, path, own, writable=block.writable, index=item.index)
    item.joined.begin(key[0], other, pieces)
    pieces += own
    item.also((key, text), other)
    return other


def own_text(
    channel: Channel, text: str, path: Path, pieces: list[Piece], *, writable: bool, index: int = 0
) -> Block:
    """A text that stands for itself."""
    block = Block("text", index=index, channel=channel, writable=writable)
    block.source.append(text)
    pieces.append(Piece(PieceKind.START, block=block))
    pieces.append(Piece(PieceKind.DELTA, block=block, path=path, text=text))
    block.closed = True
    pieces.append(Piece(PieceKind.STOP, block=block))
    return block


def part(item: Item, raw: Any, field: str, at: Any, path: Path, pieces: list[Piece]) -> None:
    """One part of a message or of reasoning; `field` and `at` say which."""
    scope = ("part", field, at)
    kind = raw.get("type") if isinstance(raw, dict) else None
    said = PARTS.get(kind) if isinstance(kind, str) else None
    if isinstance(raw, dict):
        if said is None and is_foreign_call(raw):
            without_calls(raw, path, pieces)
        strings_only(raw, "type", path, DELETE, pieces)
        if said is not None:
            strings_only(raw, said.field, path, "", pieces)
    if not isinstance(raw, dict) or said is None or not isinstance(raw.get(said.field), str):
        if isinstance(raw, dict):
            fields(raw, path, PART, pieces, (), item.shown, scope)
        else:
            show(raw, path, pieces, item.shown, scope)
        return
    key = (said.kind, at)
    block = repeat(item, key, said.channel, raw[said.field], (*path, said.field), pieces)
    if raw.get("annotations"):
        citations(item, raw["annotations"], at, (*path, "annotations"), pieces)
    if raw.get("logprobs"):
        logprobs(raw["logprobs"], (*path, "logprobs"), block, raw[said.field], pieces)
    fields(raw, path, PART, pieces, (said.field, "annotations", "logprobs"), item.shown, scope)


def is_begun(item: Item, raw: Any, field: str, at: int) -> bool:
    """Whether the item has said a text at this place that is not the one that this part begins with: some clients take
    what follows for the rest of the part, some for the rest of what was said before."""
    said = PARTS.get(raw["type"]) if isinstance(raw, dict) and isinstance(raw.get("type"), str) else None
    text = raw.get(said.field) if said is not None else None
    if not text or not isinstance(text, str):
        return False  # whatever follows, it is the end of what policies see
    kinds = ("summary",) if field == "summary" else ("text", "refusal", "reasoning", "audio")
    blocks = [block for kind in kinds if (block := item.texts.get((kind, at))) is not None and block.source]
    return any(block.text != text for block in blocks)


def is_apart(item: Item, kind: str) -> bool:
    """Whether a further text of the item would be read behind another item's by those that print deltas, and behind its own
    by those that go by items."""
    return item.joined.is_apart(kind, item) and any(
        each == kind and block.source for (each, _), block in item.texts.items()
    )


def says_apart(item: Item, raw: Any) -> bool:
    """The same of a part that begins with words."""
    said = PARTS.get(raw["type"]) if isinstance(raw, dict) and isinstance(raw.get("type"), str) else None
    return said is not None and bool(raw.get(said.field)) and is_apart(item, said.kind)


def citations(item: Item, value: Any, at: Any, path: Path, pieces: list[Piece], number: Any = None) -> None:
    """Citations of one text, each shown once: all of them (`number` is None) or the one of this number."""
    each = enumerate(value) if number is None and isinstance(value, list) else [(number, value)]
    for place, citation in each:
        key = ("citation", at, place)
        where: Path = path if number is not None or not isinstance(value, list) else (*path, cast(int, place))
        without_calls(citation, where, pieces)
        found = list(strings_in(citation))
        if item.shown.is_new(key, found):
            for spot, text in found:
                if spot[-1:] != ("type",) or text not in _CITATIONS:
                    own_text("citation", text, (*where, *spot), pieces, writable=False, index=item.index)


def logprobs(value: Any, path: Path, block: Block | None, text: str, pieces: list[Piece]) -> None:
    """Token by token the same text once more: it goes when the text is changed. The tokens that were not chosen are
    text that nobody else shows."""
    tokens = value if isinstance(value, list) else [value]
    same = all(isinstance(each, dict) for each in tokens)
    same = same and "".join(str(each.get("token", "")) for each in tokens) == text
    if block is not None:
        pieces.append(Piece(PieceKind.DERIVED, block=block, path=path, value=("logprobs",)))
    for at, each in enumerate(tokens):
        place = (*path, at) if isinstance(value, list) else path
        show({key: inner for key, inner in each.items() if key != "token"} if same else each, place, pieces)
