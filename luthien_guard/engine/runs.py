"""Pieces of text on their way through the stages, and what edits make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

from luthien_guard.events import ContentChunk
from luthien_guard.wire.format import Block, Piece, ReadChunk

__all__ = [
    "Edit",
    "Run",
    "Slot",
    "can_leave",
    "cut",
    "difference",
    "edits_fit",
    "edits_of",
    "has_edits",
    "is_content",
    "read_before",
    "split",
    "text_of",
]

#: start, end, what stands there instead
Edit = tuple[int, int, str]


class Slot:
    """The place of one delta: settled when `left` is 0."""

    __slots__ = ("chunk", "left", "parts", "piece")

    def __init__(self, chunk: ReadChunk, piece: Piece) -> None:
        self.chunk = chunk
        self.piece = piece
        self.left = len(piece.text)
        self.parts: list[str] = []


class Run(NamedTuple):
    slot: Slot
    n: int
    text: str


def read_before(block: Block, length: int) -> str:
    """The last characters of the texts that clients read in front of this one, as they left."""
    found = ""
    before = block.follows
    while before is not None and len(found) < length:
        for part in reversed(before.released):
            found = part + found
            if len(found) >= length:
                break
        before = before.follows
    return found[-length:]


def is_content(result: Any) -> bool:
    chunks = result if isinstance(result, list) else [result]
    return all(isinstance(each, ContentChunk) and isinstance(each.text, str) for each in chunks)


def can_leave(text: str) -> bool:
    """No half of a surrogate pair is in it, which UTF-8 cannot say."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(result: ContentChunk | list[ContentChunk]) -> str:
    if isinstance(result, list):
        return "".join(text_of(each) for each in result)
    return _edited(result.text, result.edits) if result.edits else result.text


def _edited(text: str, edits: Sequence[Edit]) -> str:
    out: list[str] = []
    at = 0
    for start, end, new in edits:
        out += (text[at:start], new)
        at = end
    return "".join(out) + text[at:]


def has_edits(result: ContentChunk | list[ContentChunk], window: str) -> TypeGuard[ContentChunk]:
    """It says itself what it changed of the window."""
    return isinstance(result, ContentChunk) and bool(result.edits) and result.text == window


def edits_of(result: ContentChunk | list[ContentChunk], window: str) -> list[Edit]:
    """The edits of a result; a text that was replaced whole is one edit from the first to the last difference."""
    if has_edits(result, window):
        return list(result.edits)
    return difference(text_of(result), window)


def difference(text: str, window: str) -> list[Edit]:
    """What makes one text of another, as one edit."""
    if text == window:
        return []
    start = _common(text, window)
    end = _common(text[start:][::-1], window[start:][::-1])
    return [(start, len(window) - end, text[start : len(text) - end])]


def edits_fit(result: ContentChunk | list[ContentChunk]) -> bool:
    if isinstance(result, ContentChunk) and not result.edits:
        return True
    for each in [result] if isinstance(result, ContentChunk) else result:
        if not _fit(each.edits, len(each.text)):
            return False
    return True


def _fit(edits: Any, length: int) -> bool:
    at = 0
    try:
        for start, end, new in edits:
            if not (isinstance(new, str) and at <= start <= end <= length):
                return False
            at = end
    except (TypeError, ValueError):  # no spans
        return False
    return True


def _common(a: str, b: str) -> int:
    limit = min(len(a), len(b))
    return next((at for at in range(limit) if a[at] != b[at]), limit)


def cut(runs: list[Run], end: int, edits: Sequence[Edit]) -> tuple[list[Run], list[Run]]:
    """The runs up to character `end` with the edits put in, and the rest. The text of an edit goes to the run in
    which the edit begins; a run that is split settles its slot's characters with its last part."""
    if not edits:
        return split(runs, end)
    out: list[Run] = []
    todo = list(edits)
    begin = 0
    for at, run in enumerate(runs):
        stop = begin + len(run.text)
        if begin >= end and (run.text or begin > end):
            return _with_last(out, todo), runs[at:]
        last = min(stop, end)
        text = _portion(run.text, begin, last, todo)
        if stop > end:
            out.append(Run(run.slot, 0, text))
            return _with_last(out, todo), [Run(run.slot, run.n, run.text[end - begin :]), *runs[at + 1 :]]
        out.append(Run(run.slot, run.n, text))
        begin = stop
    return _with_last(out, todo), []


def _with_last(out: list[Run], todo: Sequence[Edit]) -> list[Run]:
    """What is put in at the very end belongs to the last run."""
    if out and todo:
        out[-1] = Run(out[-1].slot, out[-1].n, out[-1].text + "".join(new for _, _, new in todo))
    return out


def split(runs: list[Run], end: int) -> tuple[list[Run], list[Run]]:
    """`_cut` without edits."""
    begin = 0
    for at, run in enumerate(runs):
        stop = begin + len(run.text)
        if begin >= end and (run.text or begin > end):
            return runs[:at], runs[at:]
        if stop > end:
            slot, n, text = run
            first = Run(slot, 0, text[: end - begin])
            return [*runs[:at], first], [Run(slot, n, text[end - begin :]), *runs[at + 1 :]]
        begin = stop
    return runs, []


def _portion(text: str, begin: int, end: int, todo: list[Edit]) -> str:
    """Characters begin..end of the window, `text` being those from `begin` on; spent edits leave `todo`, and one
    that reaches past `end` stays as a deletion of what is still to come."""
    out: list[str] = []
    at = begin
    while todo and todo[0][0] < end:
        start, stop, new = todo.pop(0)
        if start > at:
            out.append(text[at - begin : start - begin])
        out.append(new)
        at = max(at, min(stop, end))
        if stop > end:
            todo.insert(0, (end, stop, ""))
            break
    out.append(text[at - begin : end - begin])
    return "".join(out)
