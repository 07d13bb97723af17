"""What a codec writes: what nobody changed byte for byte, and of what was taken away no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from luthien_guard.testing.format_check.codec import (
    check,
    chunks_of,
    keep_all,
    pieces_of,
    read_by,
    writer_of,
    written_by,
)
from luthien_guard.testing.leaks import find_leaks
from luthien_guard.wire.format import Block, PieceKind, ReadChunk, WireFormat, is_identifier

__all__ = ["check_ends", "check_identity", "check_removed", "check_rewritten"]


def check_identity(format: WireFormat, body: bytes, *, stream: bool) -> None:
    chunks = chunks_of(body, stream=stream)
    read = read_by(format, chunks, stream=stream)
    keep_all(read)
    whole = written_by(format, read, stream=stream)
    check(whole == body, f"unchanged bytes were changed: {_difference(body, whole)}")
    read = read_by(format, chunks, stream=stream)
    keep_all(read)
    writer = writer_of(format, stream=stream)
    singly = b"".join(raw for each in read for raw, _ in writer.write([each]))
    check(singly == body, f"chunk by chunk, unchanged bytes were changed: {_difference(body, singly)}")


def check_removed(format: WireFormat, body: bytes, *, stream: bool) -> None:
    read = read_by(format, chunks_of(body, stream=stream), stream=stream)
    calls = _remove_calls(read)
    secrets = {text for block in calls if (text := block.text) and len(text) > 4 and not is_identifier(text)}
    keep_all(read)
    left = written_by(format, read, stream=stream)
    for text in secrets:
        places = find_leaks(left, text)
        check(not places, f"the arguments {text!r} of a removed call left in {', '.join(places[:3])}")
    if calls:
        check(bool(find_leaks(left, "removed by the check")), "the words for a removed call did not leave")


def _remove_calls(read: Iterable[ReadChunk]) -> list[Block]:
    calls = [
        piece.block for piece in pieces_of(read) if piece.block is not None and piece.block.kind == "call"
    ]
    for block in calls:
        block.removed, block.replacement = True, "removed by the check"
    return calls


def check_rewritten(format: WireFormat, body: bytes, *, stream: bool) -> None:
    read = read_by(format, chunks_of(body, stream=stream), stream=stream)
    rewritten = _rewrite(read)
    left = written_by(format, read, stream=stream)
    for block in rewritten:
        text, said = block.text, block.released_text
        check(bool(find_leaks(left, said)), f"the rewritten text {said!r} did not leave")
        places = find_leaks(left, text) if len(text.strip()) > 4 else []
        found = ", ".join(places[:3])
        check(not places, f"the text {text!r} was rewritten and left all the same in {found}")


def _rewrite(read: Sequence[ReadChunk]) -> list[Block]:
    """Another letter for each of the content; what repeats it repeats that."""
    rewritten: list[Block] = []
    for piece in pieces_of(read):
        block = piece.block
        if block is None or piece.kind is not PieceKind.DELTA:
            continue
        if block.kind == "text" and block.writable and block.channel == "content" and piece.text:
            piece.out, block.changed = "X" * len(piece.text), True
            rewritten.append(block)
        block.released.append(piece.text if piece.out is None else piece.out)
    for piece in pieces_of(read):
        if piece.kind is PieceKind.ECHO and piece.block is not None and piece.block.changed:
            piece.out = piece.block.released_text
    return rewritten


def check_ends(format: WireFormat, *, stream: bool) -> None:
    say = "Blocked — by the check."
    made: list[tuple[str, Callable[[], bytes]]] = [
        ("end", lambda: writer_of(format, stream=stream).end(say, {})),
        ("error", lambda: format.error(400, "invalid_request", say)),
    ]
    if stream:
        made.append(("fail", lambda: writer_of(format, stream=stream).fail(502, "upstream_error", say)))
    for name, make in made:
        check(bool(find_leaks(make(), say)), f"{name}() does not say what it was given")
    writer = writer_of(format, stream=stream)
    body = writer.end(say, None)
    check(writer.finished, "after end() the writer is not finished")
    keep_all(read := read_by(format, chunks_of(body, stream=stream), stream=stream))
    again = written_by(format, read, stream=stream)
    check(again == body, f"the format does not read what it makes up: {_difference(body, again)}")


def _difference(came: bytes, left: bytes) -> str:
    at = next(
        (at for at, (a, b) in enumerate(zip(came, left, strict=False)) if a != b), min(len(came), len(left))
    )
    around = slice(max(at - 40, 0), at + 40)
    return f"at byte {at}: {came[around]!r} became {left[around]!r}"
