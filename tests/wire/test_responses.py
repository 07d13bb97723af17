"""openai.responses on every recording: nothing unseen, identity, rewriting, removed calls, ends at any point."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from luthien_guard.testing.reading import read
from luthien_guard.wire.format import Block, Piece, PieceKind, ReadChunk, is_identifier
from luthien_guard.wire.responses import RESPONSES
from tests.official_sdks import reads
from tests.recordings import FOLDER, Recording, needs_recordings, recordings
from tests.wire.harness import blocks_of, chunks_of, keep_calls, read_all, remove_calls, rewrite, write_all

pytestmark = needs_recordings
ALL = recordings("openai.responses") if FOLDER.is_dir() else ()
each = pytest.mark.parametrize("recording", ALL, ids=repr)
#: Where an identifier or an enumeration may stand that is no text: the last key, and what it stands in.
IN_EVENTS = {"type", "item_id", "obfuscation", "size", "quality", "background", "output_format"}
IN_RESPONSES = {
    "id", "object", "model", "status", "service_tier", "previous_response_id", "truncation", "tool_choice",
    "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user",
}  # fmt: skip
IN_ITEMS = {
    "id", "type", "status", "role", "call_id", "server_label", "container_id", "phase", "namespace", "execution",
    "approval_request_id", "response_id", "size", "quality", "background", "output_format",
}  # fmt: skip
INSIDE = {
    ("text", "verbosity"), ("format", "type"), ("format", "name"), ("reasoning", "effort"), ("reasoning", "summary"),
    ("reasoning", "generate_summary"), ("incomplete_details", "reason"), ("conversation", "id"), ("error", "type"),
    ("error", "code"), ("error", "param"), ("environment", "type"), ("environment", "container_id"),
    ("caller", "type"), ("caller", "caller_id"), ("part", "type"), ("content", "type"), ("summary", "type"),
    ("annotation", "type"), ("annotations", "type"),
}  # fmt: skip


def _read(recording: Recording) -> list[ReadChunk]:
    return read_all(RESPONSES, chunks_of(recording.body, stream=recording.stream), stream=recording.stream)


def _echoes(read: list[ReadChunk]) -> None:
    """As the engine does when a chunk leaves."""
    for chunk in read:
        for piece in chunk.pieces:
            if piece.kind is PieceKind.ECHO and piece.block is not None and piece.block.changed:
                piece.out = piece.block.released_text


def _strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _strings(inner, (*path, at))
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, (*path, key))


def _covered(path: tuple[Any, ...], text: str, pieces: list[Piece], shown: set[str]) -> bool:
    if not text or text in shown:
        return True
    if any(path[: len(piece.path)] == piece.path for piece in pieces if piece.path):
        return True
    return is_identifier(text) and _is_envelope([key for key in path if isinstance(key, str)])


def _is_envelope(keys: list[str]) -> bool:
    if keys[0] == "response":
        keys = keys[1:]
    place, key = keys[:-1], keys[-1]
    if not place:
        return key in IN_EVENTS | IN_RESPONSES
    return (key in IN_ITEMS and place in (["item"], ["output"])) or (place[-1], key) in INSIDE


@each
def test_every_string_is_accounted_for(recording: Recording) -> None:
    shown: set[str] = set()
    later: list[tuple[tuple[Any, ...], str]] = []
    found = _read(recording)
    for chunk in found:
        shown |= {piece.text for piece in chunk.pieces if piece.text}
        later += [
            each for each in _strings(chunk.chunk.data) if not _covered(*each, list(chunk.pieces), shown)
        ]
    # what a call's item says when it begins is a draft of what it says when it is done
    calls = "".join(block.text for block in blocks_of(found) if block.kind == "call")
    assert [
        (path, text) for path, text in later if path[0] != "item" or json.dumps(text)[1:-1] not in calls
    ] == []


@each
def test_identity(recording: Recording) -> None:
    for step in (None, 1, 7, 100):
        if step == 1 and len(recording.body) > 60_000:
            continue
        chunks = chunks_of(recording.body, stream=recording.stream, step=step)
        for one_by_one in (False, True):
            found = read_all(RESPONSES, chunks, stream=recording.stream)
            keep_calls(found)
            assert (
                write_all(RESPONSES, found, stream=recording.stream, one_by_one=one_by_one) == recording.body
            )


@each
def test_untouched_chunks_keep_their_number(recording: Recording) -> None:
    found = _read(recording)
    written = RESPONSES.writer(stream=recording.stream, model="m", call_id="c").write(found)
    assert [number for raw, number in written if raw] == [each.source for each in found if each.chunk.raw]


@each
def test_blocks_begin_speak_and_stop_once(recording: Recording) -> None:
    state: dict[int, str] = {}
    for chunk in _read(recording):
        for piece in chunk.pieces:
            if piece.block is None:
                continue
            now = state.get(id(piece.block), "")
            if piece.kind is PieceKind.START:
                assert now == ""
                state[id(piece.block)] = "begun"
            elif piece.kind is PieceKind.DELTA:
                assert now == "begun"
            elif piece.kind is PieceKind.STOP:
                assert now == "begun"
                state[id(piece.block)] = "stopped"
            elif piece.kind is PieceKind.ECHO:
                assert piece.text == piece.block.text
    assert set(state.values()) <= {"stopped"}


def _same(came: Any, left: Any) -> bool:
    return left == came or (isinstance(came, str) and left == came.upper()) or left == []


@each
def test_upper_casing_changes_the_content_and_nothing_else(recording: Recording) -> None:
    found = _read(recording)
    rewrite(found, str.upper)
    keep_calls(found)
    _echoes(found)
    out = write_all(RESPONSES, found, stream=recording.stream)
    came = read(recording.body, recording.api, stream=recording.stream)
    left = read(out, recording.api, stream=recording.stream)
    assert left.text == came.text.upper()
    assert (left.reasoning, left.tool_calls, left.usage, left.finish) == (
        came.reasoning, came.tool_calls, came.usage, came.finish)  # fmt: skip
    if recording.status == 200 and not came.problems and not came.error:
        assert not left.problems
        reads(recording.api, out, stream=recording.stream)


def _calls(recording: Recording) -> list[Block]:
    return [block for block in blocks_of(_read(recording)) if block.kind == "call"]


WITH_CALLS = [each for each in ALL if _calls(each)]


@pytest.mark.parametrize("recording", WITH_CALLS, ids=repr)
@pytest.mark.parametrize("replacement", ["no such call", None], ids=["said", "silent"])
def test_of_removed_calls_nothing_is_left(recording: Recording, replacement: str | None) -> None:
    count = len(_calls(recording))
    for only in ("all", "first", "last") if count > 1 else ("all",):
        found = _read(recording)
        calls = [block for block in blocks_of(found) if block.kind == "call"]
        gone = {"all": calls, "first": calls[:1], "last": calls[-1:]}[only]
        remove_calls(found, replacement, lambda block, gone=gone: any(block is each for each in gone))  # type: ignore[misc]
        keep_calls(found)
        out = write_all(RESPONSES, found, stream=recording.stream, one_by_one=True)
        came = read(recording.body, recording.api, stream=recording.stream)
        left = read(out, recording.api, stream=recording.stream)
        for block in gone:
            if len(block.text) > 12 and not any(
                each.text == block.text for each in calls if each not in gone
            ):
                assert json.dumps(block.text)[1:-1].encode() not in out
                assert block.text.encode() not in out
        kept = {(block.id, block.name, block.text) for block in calls if block not in gone}
        assert all((call.id, call.name, call.arguments) in kept for call in left.tool_calls)
        if came.complete and not came.problems:
            assert left.problems == [], (only, count)
            assert left.text.count("no such call") == (len(gone) if replacement else 0)
            reads(recording.api, out, stream=recording.stream)


@pytest.mark.parametrize("recording", WITH_CALLS, ids=repr)
def test_changed_calls_leave_as_changed(recording: Recording) -> None:
    found = _read(recording)
    changed = []
    for block in blocks_of(found):
        if block.kind != "call" or block.tool_kind != "function" or not block.closed:
            continue
        changed.append((block.id, "other_name", '{"changed":"é"}'))
        block.changed, block.new_name, block.released = True, "other_name", ['{"changed":"é"}']
        pieces = [
            p for chunk in found for p in chunk.pieces if p.block is block and p.kind is PieceKind.DELTA
        ]
        for at, piece in enumerate(pieces):
            piece.out = "" if at else '{"changed":"é"}'
    _echoes(found)
    out = write_all(RESPONSES, found, stream=recording.stream)
    came = read(recording.body, recording.api, stream=recording.stream)
    left = read(out, recording.api, stream=recording.stream)
    if came.problems or not came.complete:
        return
    assert left.problems == []
    assert [(c.id, c.name, c.arguments) for c in left.tool_calls if c.name == "other_name"] == [
        each for each in changed if each[1]
    ]
    reads(recording.api, out, stream=recording.stream)


@pytest.mark.parametrize("recording", [each for each in ALL if each.stream and each.status == 200], ids=repr)
def test_an_answer_ends_well_after_any_chunk(recording: Recording) -> None:
    came = read(recording.body, recording.api, stream=True)
    if came.problems or came.error:
        return
    found = _read(recording)
    rng = random.Random(recording.id)
    for cut in {0, 1, 2, len(found) // 2, *(rng.randrange(len(found)) for _ in range(3))}:
        writer = RESPONSES.writer(stream=True, model="m", call_id="0190-test")
        out = b"".join(raw for chunk in found[:cut] for raw, _ in writer.write([chunk]))
        if writer.finished:
            assert writer.end("x", None) == b""
            continue
        out += writer.end("Blocked here — ⛔.", {"input_tokens": 3})
        assert writer.finished
        left = read(out, recording.api, stream=True)
        assert left.complete and left.problems == [], (cut, left.problems)
        assert left.text.endswith("Blocked here — ⛔.")
        assert left.usage is not None and left.usage["input_tokens"] == 3
        reads(recording.api, out, stream=True)
