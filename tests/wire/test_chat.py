"""openai.chat over every recording: identity, accounting, rewriting; and the library's own check."""

from __future__ import annotations

import random

import pytest

from luthien_guard.testing import check_wire_format
from luthien_guard.wire.chat import CHAT
from tests.recordings import FOLDER, Recording, made_plain, needs_recordings, recordings
from tests.wire.harness import chunks_of, read_all, write_all

ALL = recordings("openai.chat") if FOLDER.is_dir() else ()
each = pytest.mark.parametrize("recording", ALL, ids=repr)


def test_it_keeps_the_rules_of_wire_formats() -> None:
    check_wire_format(CHAT)


@needs_recordings
@each
def test_what_nobody_decided_leaves_as_it_came(recording: Recording) -> None:
    """(A last event without its blank line gets one, and no message stands beside the delta that it repeats: law 2.)"""
    came = made_plain(recording.body)
    step = random.Random(recording.id).choice((2, 7, 60, 400))
    for cut in (None, 1 if len(recording.body) < 20_000 else 13, step):
        chunks = chunks_of(recording.body, stream=recording.stream, step=cut)
        for one_by_one in (False, True):
            read = read_all(CHAT, chunks, stream=recording.stream)
            assert (
                write_all(CHAT, read, stream=recording.stream, one_by_one=one_by_one).rstrip()
                == came.rstrip()
            )
        writer = CHAT.writer(stream=recording.stream, model="m", call_id="c")
        if came == recording.body:
            assert [number for _, number in writer.write(read)] == [
                one.source for one in read if one.chunk.raw
            ]
