"""What is on record about a response: as it came, and as it left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, Guard, GuardMiddleware, Limits, Policy, ToolCall, hookimpl
from luthien_guard.events import Chunk
from luthien_guard.policy import Abort
from tests.asgi_drive import ask, replay

pytestmark = pytest.mark.anyio

REQUEST = b'{"model": "m", "stream": true, "n": 2, "messages": [{"role": "user", "content": "hi"}]}'


def frame(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    data = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def body(*choices: tuple[int, str | None, str]) -> bytes:
    data = [{"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": reason} for at, text, reason in choices]  # fmt: skip
    return json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": data}).encode()  # fmt: skip


async def recorded(
    policies: list[Any], answer: bytes, *, cuts: Sequence[int] = (), **options: Any
) -> dict[str, list[dict[str, Any]]]:
    stream = answer.startswith(b"data:")
    kind = "text/event-stream" if stream else "application/json"
    guard = Guard(policies, **options)
    app = GuardMiddleware(replay(answer, status=200, content_type=kind, cuts=cuts), guard=guard)
    async with guard:
        reply = await ask(app, "/v1/chat/completions", REQUEST)
        call_id = reply.header("x-luthien-call-id")
        assert call_id
        found: dict[str, list[dict[str, Any]]] = {}
        for each in guard.records_of(call_id):
            found.setdefault(each.type.value, []).append(dict(each.details))
    return found


class Watches(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> None:
        """Nothing."""


class Upper(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        return chunk.replace(text=chunk.text.upper())


STREAM = (
    frame(0, {"role": "assistant", "content": "a"})
    + frame(1, {"role": "assistant", "content": "b"})
    + frame(1, {}, "length")
    + frame(0, {}, "stop")
    + b"data: [DONE]\n\n"
)


@pytest.mark.parametrize(
    "answer", [STREAM, body((1, "b", "length"), (0, "a", "stop"))], ids=["stream", "body"]
)
@pytest.mark.parametrize("policies", [[Watches()], [Upper()]], ids=["as it came", "changed"])
async def test_each_choice_has_its_own_finish_reason(policies: list[Any], answer: bytes) -> None:
    found = await recorded(policies, answer)
    for side in ("response.received", *(["response.released"] if isinstance(policies[0], Upper) else [])):
        choices = found[side][0]["choices"]
        assert [(each["choice"], each["finish_reason"]) for each in choices] == [(0, "stop"), (1, "length")]


async def test_a_choice_that_says_nothing_lends_nobody_its_reason() -> None:
    found = await recorded([Watches()], body((0, None, "content_filter"), (1, "b", "stop")))
    choices = found["response.received"][0]["choices"]
    assert {each["choice"]: each["finish_reason"] for each in choices}[1] == "stop"


class Explains(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("no", "EXPLAINED")


class StopsAll(Policy):
    hold = "response"

    @hookimpl
    def on_response_completed(self, response: Any) -> Abort:
        return Abort("no", "STOPPED")


class StopsText(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Abort | None:
        return Abort("no", "STOPPED") if "bad" in chunk.text else None

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> None:
        """Holds it."""


def a_call(arguments: str) -> bytes:
    function = {"name": "bash", "arguments": arguments}
    calls = [{"index": 0, "id": "t", "type": "function", "function": function}]
    return (
        frame(0, {"role": "assistant", "content": "good"})
        + frame(1, {"role": "assistant", "tool_calls": calls})
        + frame(0, {"content": "bad"})
        + frame(1, {}, "tool_calls")
        + frame(0, {}, "stop")
        + b"data: [DONE]\n\n"
    )


async def test_words_that_never_left_are_not_said() -> None:
    found = await recorded([Explains(), StopsAll()], a_call("{}"))
    assert found["response.released"][0]["said"] == ["STOPPED"]


@pytest.mark.parametrize("arguments", ["{}", ""])
async def test_a_call_that_was_held_when_the_answer_was_ended_did_not_leave(arguments: str) -> None:
    found = await recorded([StopsText()], a_call(arguments))
    (choice,) = found["response.released"][0]["choices"]
    assert [each["text"] for each in choice["texts"]] == ["good"]
    assert choice["tool_calls"] == []


async def test_a_frame_that_is_too_large_is_noted_a_few_times() -> None:
    large = b"data: " + b"x" * 4_000_000 + b"\n\n" + STREAM
    found = await recorded(
        [Watches()], large, cuts=[40_000] * 99, limits=Limits(max_event_bytes=1000), mode="observe"
    )
    times = [each["times"] for each in found["response.noted"]]
    assert times == [2**power for power in range(len(times))]
    assert 2 <= len(times) <= 12


async def test_many_kinds_of_what_nobody_knows_are_told_apart_up_to_a_bound() -> None:
    frames = [b'data: {"object": "x%d"}\n\n' % at for at in range(1000)]
    found = await recorded([Watches()], b"".join(frames) + STREAM, mode="observe")
    assert len(found.get("response.noted", [])) < 100


class Marks(Policy):
    @hookimpl
    def on_chunk_started(self, chunk: Chunk) -> Chunk | None:
        return chunk.replace(data={**chunk.data, "marked": 1}) if isinstance(chunk.data, dict) else None


async def test_kinds_of_changed_chunks_are_told_apart_up_to_a_bound() -> None:
    data = frame(0, {"content": "a"})
    named = [b"event: %d%s\n%s" % (at, b"x" * 999, data) for at in range(1000)]
    found = await recorded([Marks()], data + b"".join(named) + b"data: [DONE]\n\n")
    kinds = [each["chunk"] for each in found["policy.changed"]]
    assert 2 < len(kinds) < 100
    assert max(map(len, kinds)) < 1000
