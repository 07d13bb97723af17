"""Frames out of bytes that are cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard.gateway.upstreams.ending import Ending
from luthien_guard.gateway.upstreams.frames import Frames

FINISH = b'data: {"choices":[{"finish_reason":"stop"}]}\n\n'
FAILED = b'event: error\ndata: {"type":"error","error":{"message":"no"}}\n\n'
STREAM = "event: a\ndata: {{}}{0}{0}data: [DONE]{0}{0}: still here{0}{0}data: half"


@given(st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(1, 20), min_size=1))
def test_nothing_is_lost_and_nothing_leaves_in_halves(end: str, sizes: list[int]) -> None:
    stream = STREAM.replace("\n", end).format(end).encode()
    frames = Frames(1 << 20)
    left, at, number = [], 0, 0
    while at < len(stream):
        left.append(frames.feed(stream[at : at + sizes[number % len(sizes)]]))
        at += sizes[number % len(sizes)]
        number += 1
    assert all(each.endswith((end * 2).encode()) for each in left if each)
    assert b"".join(left) == stream.removesuffix(b"data: half")
    assert frames.rest() == b"data: half"
    assert frames.rest() == b""


def test_a_frame_past_the_limit_goes_on_as_it_comes() -> None:
    frames = Frames(10)
    assert frames.feed(b"data: abc") == b""
    assert frames.feed(b"def") == b"data: abcdef"
    assert frames.feed(b"ghi\n\n") == b"ghi\n\n"


@pytest.mark.parametrize(
    ("wire_format", "frames", "over", "may_end"),
    [
        ("openai.chat", [FINISH, b"data: [DONE]\n\n"], True, True),
        ("openai.chat", [FINISH, b'data: {"usage":{}}\n\n'], False, True),
        ("openai.chat", [b'data: {"choices":[{"finish_reason":null}]}\n\n'], False, False),
        ("openai.chat", [b'data: {"error":{"message":"no"}}\n\n'], True, True),
        ("openai.chat", [b"data: [DONE]\n\n", b": ping\n\n"], True, True),
        ("openai.chat", [b"data: nonsense\n\n", b"data: []\n\n"], False, False),
        ("openai.chat", [FINISH[:-2]], False, True),
        ("anthropic.messages", [b'event: message_stop\ndata: {"type":"message_stop"}\n\n'], True, True),
        ("anthropic.messages", [FAILED], True, True),
        ("anthropic.messages", [b'data: {"type":"message_delta"}\n\n'], False, False),
        ("openai.responses", [b'data: {"type":"response.incomplete"}\n\n'], True, True),
        ("openai.responses", [b'data: {"type":"response.created"}\n\n'], False, False),
        ("openai.responses", [], False, False),
    ],
)
def test_last_words(wire_format: str, frames: list[bytes], over: bool, may_end: bool) -> None:
    ending = Ending(wire_format)
    for each in frames:
        ending.note(each)
    assert (ending.is_over(), ending.may_end()) == (over, may_end)
