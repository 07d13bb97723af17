"""The readers complain about exactly what bricks clients."""

from __future__ import annotations

import json
from typing import Any

import pytest

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


@needs_recordings
def test_reading_never_raises_on_real_traffic() -> None:
    for recording in recordings():
        read(recording.body, recording.api, stream=recording.stream)
