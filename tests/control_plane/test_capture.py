"""Captured pieces are those that came: no hole, once, also of an answer that was ended."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard import Guard
from luthien_guard.control_plane.service import StreamingContext
from luthien_guard.exchange import RequestMetadata
from luthien_guard.limits import Limits
from luthien_guard.records import EventType

pytestmark = pytest.mark.anyio
REQUEST = b'{"model": "m", "stream": true, "messages": []}'
PIECE = b'data: {"choices": [{"index": 0, "delta": {"content": "one"}}]}\n\n'


async def captured(*pieces: bytes, limit: int = 10_000, fails: bool = False, ends: bool = True) -> list[Any]:
    guard = Guard(capture_chunks=True, limits=Limits(max_response_bytes=limit))
    await guard.plane.decide_request(RequestMetadata("c", 0.0), "openai.chat", REQUEST)
    stream = await guard.plane.open_stream(StreamingContext("c", "openai.chat", 200, True))
    for piece in pieces:
        assert (await stream.feed(piece)).alike is None, "every piece is to be seen"
    if ends:
        await stream.feed(b"", last=True)
    if fails:
        await stream.fail(504, "idle_timeout", "silent")
    await guard.plane.close("c")
    return [fact.details for fact in guard.records_of("c") if fact.type is EventType.RESPONSE_CHUNKS]


async def test_what_has_no_room_is_counted_and_leaves_no_hole() -> None:
    (found,) = await captured(PIECE, PIECE * 2, PIECE, limit=2 * len(PIECE))
    assert found["chunk_lens"] == [len(PIECE)]
    assert found["body_text"] == PIECE.decode()
    assert found["missing"] == 3 * len(PIECE)


async def test_what_fits_is_whole() -> None:
    (found,) = await captured(PIECE, PIECE, limit=2 * len(PIECE))
    assert found["chunk_lens"] == [len(PIECE)] * 2
    assert found["missing"] == 0


@pytest.mark.parametrize("ends", [True, False])
async def test_an_answer_that_was_ended_is_captured_once(ends: bool) -> None:
    (found,) = await captured(PIECE, fails=True, ends=ends)
    assert found["body_text"] == PIECE.decode()
