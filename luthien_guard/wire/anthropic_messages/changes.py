"""What changes inside the JSON of a chunk or body, once the engine has decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from luthien_guard.errors import IllegalOutput, WireError
from luthien_guard.wire.anthropic_messages.sections import Section
from luthien_guard.wire.format import Block, Path, Piece, PieceKind
from luthien_guard.wire.json_text import DELETE, Raw, dumps, loads, patch, slice_of

__all__ = ["check_arguments", "content_changes", "finish_after_removal", "piece_changes", "sections_of", "text_block"]


def piece_changes(pieces: Iterable[Piece]) -> dict[Path, Any]:
    """New texts, arguments and names, at their places."""
    changes: dict[Path, Any] = {}
    for piece in pieces:
        block = piece.block
        if block is None or block.removed:
            continue
        if piece.out is not None and piece.path:
            changes[piece.path] = Raw(piece.out or "{}") if piece.is_json else piece.out
        elif piece.kind is PieceKind.DERIVED and block.new_name is not None and piece.path[-1:] == ("name",):
            changes[piece.path] = block.new_name
    return changes


def check_arguments(block: Block) -> None:
    """Arguments that a policy made must be what the wire can carry: a JSON object. Raises IllegalOutput."""
    text = block.released_text
    if not block.changed or not text or text == block.text:
        return
    try:
        value = loads(text.encode("utf-8", "surrogatepass"))
    except WireError as error:
        raise IllegalOutput(f"anthropic.messages: arguments of a tool call: {error}", policy="", hook="") from None
    if not isinstance(value, dict):
        raise IllegalOutput("anthropic.messages: arguments that are no JSON object", policy="", hook="")


def finish_after_removal(reason: str, *, removed: bool, kept: bool) -> str:
    """`tool_use` is only true while a call for the client is left; any other reason is upstream's to say."""
    return "end_turn" if removed and not kept and reason == "tool_use" else reason


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def sections_of(pieces: Iterable[Piece]) -> list[Section]:
    """The sections that begin in these pieces, in order."""
    found: dict[int, Section] = {}
    for piece in pieces:
        if piece.value.__class__ is Section:
            found.setdefault(id(piece.value), piece.value)
    return list(found.values())


def content_changes(json_text: str, pieces: Sequence[Piece], sections: Sequence[Section]) -> dict[Path, Any]:
    """The changes of a message whose blocks stand whole in its content, with its finish reason.

    Explanations of removed calls stand in their place, but never behind a call that the client runs: the provider
    accepts no text there.
    """
    changes = {path: value for path, value in piece_changes(pieces).items()}
    said = _explanations(sections)
    for section in sections:
        place = section.place
        if section.block is not None and section.is_call:
            check_arguments(section.block)
        texts = [dumps(text_block(text)) for text in said.get(place, ())]
        if section.is_removed:
            changes = {path: value for path, value in changes.items() if path[: len(place)] != place}
            changes[place] = Raw(",".join(texts)) if texts else DELETE
        elif texts:
            inner = {path[len(place) :]: value for path, value in changes.items() if path[: len(place)] == place}
            changes = {path: value for path, value in changes.items() if path[: len(place)] != place}
            changes[place] = Raw(",".join([*texts, patch(slice_of(json_text, place), inner)]))
    _finish(pieces, sections, changes)
    return changes


def _explanations(sections: Sequence[Section]) -> dict[Path, list[str]]:
    """Which texts go before which block."""
    said: dict[Path, list[str]] = {}
    first: Section | None = None
    for section in sections:
        first = first or (section if section.kind == "tool_use" else None)
        block = section.block
        if block is not None and block.removed and block.replacement:
            said.setdefault((first or section).place, []).append(block.replacement)
    return said


def _finish(pieces: Iterable[Piece], sections: Sequence[Section], changes: dict[Path, Any]) -> None:
    calls = [section for section in sections if section.is_client_call]
    kept = any(not section.is_removed for section in calls)
    for piece in pieces:
        if piece.kind is PieceKind.FINISH:
            reason = finish_after_removal(piece.text, removed=bool(calls), kept=kept)
            if reason != piece.text:
                changes[piece.path] = reason
