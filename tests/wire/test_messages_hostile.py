"""anthropic.messages against an upstream that says one thing to the guard and another to clients."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, Guard, Policy, ToolCall, hookimpl
from luthien_guard.events import Chunk
from luthien_guard.wire.json_text import loads
from luthien_guard.wire.messages import MESSAGES
from luthien_guard.wire.messages.elements import Elements
from luthien_guard.wire.messages.splice import replace_text
from tests.cases.chat_wire import through
from tests.wire.harness import blocks_of, chunks_of, keep_calls, read_all, remove_calls, write_all

pytestmark = pytest.mark.anyio
API = "anthropic.messages"


class Shouts(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk | None:
        if chunk.channel != "content":
            return None
        return ContentChunk(chunk.text.upper(), chunk.channel, chunk.choice, chunk.index)


class Forbids(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        return Block("calls", "no") if call.name == "bad" else None


def message(content: Any, **more: Any) -> dict[str, Any]:
    return {"id": "m", "type": "message", "role": "assistant", "model": "x", "content": content,
            "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1}, **more}  # fmt: skip


def frame(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


BEGIN = frame({"type": "message_start", "message": message([], stop_reason=None)}) + frame(
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
)
END = b"".join(
    frame(each)
    for each in (
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    )
)
DELTA = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",%b}}\n'


# -- where a rewrite goes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    "member", [b'"text":"hello"', b'"text" :"hello"', b'"te\\u0078t":"hello"', b'"text": "hell\\u006f"']
)
@pytest.mark.parametrize(
    "before",
    [b"", b': "text":"hello"\n', b'id: "text":"hello"\n', b': "text" : "hello"\n', b'x: {"text":"hello"}\n'],
)
async def test_a_rewrite_goes_where_clients_read_it(before: bytes, member: bytes, step: int) -> None:
    named = b"event: content_block_delta\n"
    for raw in (before + named + DELTA % member + b"\n", named + DELTA % member + before + b"\n"):
        sent = await through([Shouts()], BEGIN + raw + END, format=API, step=step)
        assert sent.left.text == "HELLO"


@pytest.mark.parametrize(
    "member",
    [
        b'"text":"a"',
        b'"text": "a"',
        b'"text" :"a"',
        b'"text":"text"',
        b'"text":"\\"text"',
        b'"text":"\\u0061"',
    ],
)
def test_a_splice_changes_the_text_or_gives_up(member: bytes) -> None:
    raw = DELTA % member + b"\n"
    data = loads(raw[6:])
    spliced = replace_text(Chunk("data", raw, data), data["delta"]["text"], "n\u2028ew")
    if spliced is not None:
        assert loads(spliced[6:])["delta"] == {"type": "text_delta", "text": "n\u2028ew"}
        assert "\u2028".encode() not in spliced
    assert replace_text(Chunk("data", raw, data, ignored=(": x",)), data["delta"]["text"], "b") is None


def test_the_plain_case_is_spliced() -> None:
    raw = DELTA % b'"text":"a"' + b"\n"
    assert replace_text(Chunk("data", raw, loads(raw[6:])), "a", "b") == raw.replace(b'"a"', b'"b"')


# -- lists that are none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [{"0": {"type": "tool_use", "id": "t", "name": "bad", "input": {}}}, "text", 7], ids=repr
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_content_that_is_no_list_is_unknown(content: Any, streamed: bool) -> None:
    said = message(content)
    body = frame({"type": "message_start", "message": said}) + END if streamed else json.dumps(said).encode()
    sent = await through(Guard([Forbids()], unknown="block"), body, stream=streamed, format=API)
    assert sent.outcome.status.value == "blocked"


# -- bodies ------------------------------------------------------------------------------------------------------------


def calls(count: int, bad: int = 0) -> bytes:
    content = [
        {"type": "tool_use", "id": f"t{at}", "name": "bad" if at < bad else "b", "input": {"a": at}}
        for at in range(count)
    ]
    return json.dumps(message([{"type": "text", "text": "x"}, *content], stop_reason="tool_use")).encode()


@pytest.mark.parametrize("remove", [False, True])
def test_thousands_of_calls_which_took_minutes_are_read_and_written(remove: bool) -> None:
    count = 4000
    body = calls(count, bad=count // 2)
    found = read_all(MESSAGES, chunks_of(body, stream=False), stream=False)
    if remove:
        remove_calls(found, "no", lambda block: block.name == "bad")
    for block in blocks_of(found):
        if block.kind == "call" and not block.removed:
            block.new_name = "c"
    left = loads(write_all(MESSAGES, found, stream=False))["content"]
    assert sum(each["type"] == "tool_use" for each in left) == (count // 2 if remove else count)


def test_arguments_are_read_as_they_stand_and_the_rest_stays_so() -> None:
    number = "1" * 4400
    body = (
        b'{ "content" :[ {"type":"tool_use","id":"a","name":"keep","input": { "n":1.50,"s":"]}\\"" }} ,\n'
        b'{"type":"tool_use","id":"b","name":"bad","input":[1,[2]]},{"type":"text","text":"[" } ] }'
    )
    found = read_all(MESSAGES, chunks_of(body, stream=False), stream=False)
    assert [b.text for b in blocks_of(found) if b.kind == "call"] == ['{ "n":1.50,"s":"]}\\"" }', "[1,[2]]"]
    keep_calls(found)
    assert write_all(MESSAGES, found, stream=False) == body
    remove_calls(found, None, lambda block: block.name == "bad")
    out = write_all(MESSAGES, found, stream=False)
    assert b'{"type":"tool_use","id":"a","name":"keep","input": { "n":1.50,"s":"]}\\"" }}' in out
    assert b"bad" not in out and loads(out)["content"][1] == {"type": "text", "text": "["}
    assert Elements(f'{{"content":[{number},1e5, "x"]}}', ("content",))[2] == '"x"'
    assert Elements(f'{{"content":[{{"a":{number}}}]}}', ("content",)).slice(("content", 0, "a")) == number
