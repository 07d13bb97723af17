"""The readers complain about exactly what bricks clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard.testing import read
from tests.recordings import needs_recordings, recordings


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)


START = {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}}
TOOL = {
    "type": "content_block_start",
    "index": 0,
    "content_block": {"type": "tool_use", "id": "t", "name": "bash"},
}
TEXT = {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "x"}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
LAST = {"type": "message_stop"}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([TEXT], "before message_start"),
        ([START, {**TEXT, "index": 3}], "block 3 where 0 was due"),
        ([START, TOOL, TEXT], "starts inside a block"),
        ([START, TOOL, stop(0), TEXT, stop(1), END, LAST], "text follows a tool_use"),
        ([START, END, TOOL], "after message_delta"),
        ([START, TOOL, END, LAST], "message_delta inside a block"),
        ([START, LAST], "without message_delta"),
        ([START, END, LAST, LAST], "after message_stop"),
        ([START, {**END, "delta": {"stop_reason": "tool_use"}}, LAST], "tool_use and there is none"),
        ([START, stop(0)], "which is not open"),
    ],
)
def test_anthropic_streams_that_brick_a_session(events: list[dict[str, Any]], complaint: str) -> None:
    assert any(complaint in each for each in read(sse(*events), "anthropic.messages", stream=True).problems)


def chat(*chunks: Any) -> bytes:
    texts = [
        each if isinstance(each, str) else json.dumps({"choices": [{"index": 0, **each}]}) for each in chunks
    ]
    return b"".join(f"data: {text}\n\n".encode() for text in texts)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (chat({"delta": {"content": "a"}}, "[DONE]"), "no finish_reason"),
        (
            chat({"delta": {}, "finish_reason": "stop"}, {"delta": {"content": "a"}}, "[DONE]"),
            "after finish_reason",
        ),
        (chat({"delta": {}, "finish_reason": "tool_calls"}, "[DONE]"), "has none"),
        (chat({"delta": {}, "finish_reason": "stop"}, "[DONE]", "[DONE]"), "follows [DONE]"),
        (chat({"delta": {"tool_calls": [{"index": 1, "id": "a"}]}}), "begins after 0 others"),
        (b'data: {"choices": []}', "not ended by an empty line"),
        (b"data: nonsense\n\n", "not JSON"),
    ],
)
def test_chat_streams_that_break_clients(body: bytes, complaint: str) -> None:
    assert any(complaint in each for each in read(body, "openai.chat", stream=True).problems)


def test_responses_repeats_must_agree_with_the_deltas() -> None:
    item = {"id": "m", "type": "message", "content": []}
    place = {"output_index": 0, "content_index": 0}
    body = sse(
        {"type": "response.output_item.added", "sequence_number": 0, "output_index": 0, "item": item},
        {"type": "response.output_text.delta", "sequence_number": 1, **place, "delta": "a"},
        {"type": "response.output_text.done", "sequence_number": 1, **place, "text": "b"},
        {
            "type": "response.completed",
            "sequence_number": 3,
            "response": {"status": "completed", "output": []},
        },
    )
    problems = " ".join(read(body, "openai.responses", stream=True).problems)
    for complaint in ("sequence_number 1 after 1", "says other than its deltas", "never done"):
        assert complaint in problems


FORMATS = ("openai.chat", "anthropic.messages", "openai.responses")
KEYS = [
    "choices", "message", "delta", "content", "tool_calls", "function", "arguments", "index", "type", "output", "item",
    "text", "summary", "response", "content_block", "output_index", "usage", "error",
]  # fmt: skip
TYPES = [
    "content_block_start", "content_block_delta", "message_start", "message_delta", "response.created",
    "response.output_item.added", "response.output_text.delta", "response.completed", "error", "text", "tool_use",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from([*TYPES, "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(events=st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5), max_size=4))
def test_reading_never_raises_on_any_json(events: list[Any]) -> None:
    for wire_format in FORMATS:
        for event in events:
            read(json.dumps(event).encode(), wire_format, stream=False)
        read(
            b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in events), wire_format, stream=True
        )


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("body", [b"[" * 100_000, b"data: " + b"[" * 100_000 + b"\n\n", b"\xff", b""])
def test_reading_never_raises_on_any_bytes(body: bytes, *, stream: bool) -> None:
    for wire_format in FORMATS:
        assert not read(body, wire_format, stream=stream).complete


def test_what_has_no_shape_is_a_problem() -> None:
    (problem,) = read(b'{"output": 5}', "openai.responses", stream=False).problems
    assert problem.startswith("clients cannot read it: TypeError")
    with pytest.raises(KeyError):
        read(b"{}", "openai.chats", stream=False)


@needs_recordings
def test_reading_never_raises_on_real_traffic() -> None:
    for recording in recordings():
        read(recording.body, recording.api, stream=recording.stream)
