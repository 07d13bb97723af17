"""anthropic.messages over the recordings: identity, rewriting, removal, changed calls; the SDK reads what leaves."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from luthien_guard.testing.reading import read as client
from luthien_guard.wire.format import Block, PieceKind, ReadChunk, is_identifier
from luthien_guard.wire.messages import MESSAGES
from tests.official_sdks import reads
from tests.recordings import FOLDER, Recording, needs_recordings, pairs, recordings
from tests.wire.harness import blocks_of, chunks_of, keep_calls, read_all, remove_calls, rewrite, write_all

pytestmark = needs_recordings
NAME = "anthropic.messages"
ALL = recordings(NAME) if FOLDER.is_dir() else ()
each = pytest.mark.parametrize("recording", ALL, ids=repr)

#: Where an identifier stands that is not text: the last key, and the keys that lead to it.
ENVELOPE = frozenset(
    {"type", "id", "tool_use_id", "server_name", "role", "model", "stop_reason", "request_id", "code"}
)
USAGE = frozenset({"service_tier", "inference_geo", "speed", "type", "model"})


def read_of(recording: Recording) -> list[ReadChunk]:
    return read_all(MESSAGES, chunks_of(recording.body, stream=recording.stream), stream=recording.stream)


def strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from strings(inner, (*path, at))


def is_envelope(path: tuple[Any, ...], text: str) -> bool:
    holder = path[-2] if len(path) > 1 else ""
    names = USAGE if holder == "usage" else ENVELOPE
    in_place = holder in (
        "",
        "message",
        "content_block",
        "delta",
        "error",
        "usage",
        "citation",
    ) or isinstance(holder, int)
    return path[-1] in names and in_place and is_identifier(text)


@each
def test_every_string_is_accounted_for(recording: Recording) -> None:
    for chunk in read_of(recording):
        covered = [piece.path for piece in chunk.pieces if piece.path and piece.kind is not PieceKind.USAGE]
        for path, text in strings(chunk.chunk.data):
            inside = any(path[: len(place)] == place for place in covered)
            assert not text or inside or is_envelope(path, text), (path, text)


@each
def test_identity(recording: Recording) -> None:
    chance = random.Random(recording.id)
    for step in (None, 1, chance.randrange(2, 300)):
        chunks = chunks_of(recording.body, stream=recording.stream, step=step)
        for one_by_one in (False, True):
            read = read_all(MESSAGES, chunks, stream=recording.stream)
            out = write_all(MESSAGES, read, stream=recording.stream, one_by_one=one_by_one)
            # a last event without its blank line gets one
            assert out == recording.body or out == recording.body.rstrip() + b"\n\n"
    writer = MESSAGES.writer(stream=recording.stream, model="m", call_id="c")
    sources = [source for _, source in writer.write(read)]
    assert sources == [chunk.source for chunk in read if chunk.chunk.raw]


@each
def test_rewriting_changes_the_content_and_nothing_else(recording: Recording) -> None:
    for one_by_one in (False, True):
        read = read_of(recording)
        rewrite(read, str.upper)
        keep_calls(read)
        out = write_all(MESSAGES, read, stream=recording.stream, one_by_one=one_by_one)
        came, left = (client(body, NAME, stream=recording.stream) for body in (recording.body, out))
        assert left.text == came.text.upper()
        assert (left.reasoning, left.tool_calls, left.finish, left.usage) == (
            came.reasoning, came.tool_calls, came.finish, came.usage,
        )  # fmt: skip
        after = chunks_of(out, stream=recording.stream)
        assert len(after) == len([chunk for chunk in read if chunk.chunk.raw])
        for before, then in zip(read, after, strict=False):
            for one, other in pairs(before.chunk.data, then.data):
                assert other in (one, one.upper() if isinstance(one, str) else one)


def readable(recording: Recording) -> bool:
    came = client(recording.body, NAME, stream=recording.stream)
    return recording.status == 200 and not came.problems and not came.error


def names(block: Block) -> list[bytes]:
    texts = [text for text in (block.text,) if len(text) > 5]
    return [json.dumps(text)[1:-1].encode() for text in texts] + [text.encode() for text in texts]


@each
@pytest.mark.parametrize("which", ["all", "first", "last", "odd"])
def test_removed_calls_leave_nothing(recording: Recording, which: str) -> None:
    read = read_of(recording)
    calls = [block for block in blocks_of(read) if block.kind == "call"]
    rules = {
        "all": lambda n: True,
        "first": lambda n: n == 0,
        "last": lambda n: n == len(calls) - 1,
        "odd": lambda n: n % 2,
    }
    chosen = [block for n, block in enumerate(calls) if rules[which](n)]
    if not chosen:
        return
    remove_calls(read, "⛔ blocked", only=lambda block: any(block is each for each in chosen))
    out = write_all(MESSAGES, read, stream=recording.stream)
    left_texts = [block.text for block in calls if not block.removed]
    for block in chosen:
        # a call that was kept may name the program that made it
        called_others = re.search(f'"tool_id": ?"{block.id}"', recording.body.decode())
        assert called_others or block.id.encode() not in out
        assert block.text in left_texts or not any(secret in out for secret in names(block))
    came, left = (client(body, NAME, stream=recording.stream) for body in (recording.body, out))
    if not readable(recording):
        return
    assert left.problems == []
    assert "⛔ blocked" in left.text
    client_calls = [block for block in calls if block.tool_kind == "function"]
    if client_calls and all(block.removed for block in client_calls):
        assert "tool_use" not in left.finish
    elif came.finish and "tool_use" not in came.finish:
        assert left.finish == came.finish
    reads(NAME, out, stream=recording.stream)


@each
def test_changed_calls_leave_changed(recording: Recording) -> None:
    read = read_of(recording)
    calls = [block for block in blocks_of(read) if block.kind == "call" and block.closed]
    for block in calls:
        block.changed, block.policed, block.new_name = True, True, "renamed"
        block.released = ['{"new":"✓"}']
        deltas = [p for c in read for p in c.pieces if p.block is block and p.kind is PieceKind.DELTA]
        for at, piece in enumerate(deltas):
            piece.out = block.released_text if at == 0 else ""
    out = write_all(MESSAGES, read, stream=recording.stream)
    for chunk in read_all(MESSAGES, chunks_of(out, stream=recording.stream), stream=recording.stream):
        for piece in chunk.pieces:
            if (
                piece.kind is PieceKind.STOP
                and piece.block is not None
                and piece.block.kind == "call"
                and piece.block.closed
            ):
                assert (piece.block.name, json.loads(piece.block.text)) == ("renamed", {"new": "✓"})
    if readable(recording):
        reads(NAME, out, stream=recording.stream)


@each
def test_the_answer_can_end_anywhere(recording: Recording) -> None:
    if not readable(recording) or not recording.stream:
        return
    read = read_of(recording)
    at = sorted(
        {0, 1, 2, len(read) // 2, len(read) - 2, *random.Random(recording.id).choices(range(len(read)), k=4)}
    )
    for k in at:
        writer = MESSAGES.writer(stream=True, model="m", call_id="c")
        out = b"".join(raw for raw, _ in writer.write(read[:k]))
        out += writer.end("⛔ the end", {"output_tokens": 3})
        left = client(out, NAME, stream=True)
        assert left.complete
        assert writer.finished
        assert left.problems == []
        assert "refusal" not in left.finish or any(p.text == "refusal" for c in read[:k] for p in c.pieces)
        assert writer.end("again", None) == b""
        reads(NAME, out, stream=True)
