"""anthropic.messages against an upstream that says one thing to the guard and another to clients."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, ContentCompleted, Guard, Policy, ToolCall, hookimpl
from luthien_guard.events import Chunk
from luthien_guard.wire.json_text import loads
from luthien_guard.wire.messages import MESSAGES
from luthien_guard.wire.messages.elements import Elements
from luthien_guard.wire.messages.splice import replace_text
from tests.cases.chat_wire import through
from tests.wire.harness import blocks_of, chunks_of, keep_calls, read_all, remove_calls, write_all
from tests.wire.messages_events import (
    argued,
    begun,
    delta,
    finished,
    frame,
    message,
    said,
    started,
    stopped,
    wire,
)

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


@pytest.mark.parametrize("streamed", [True, False])
async def test_such_a_content_does_not_leave(streamed: bool) -> None:
    """JavaScript finds its first block under "0"."""
    said = message({"0": {"type": "tool_use", "id": "t", "name": "bad", "input": {}}})
    begun = frame({"type": "message_start", "message": said})
    body = begun + wire(*finished()) if streamed else json.dumps(said).encode()
    sent = await through([Forbids()], body, stream=streamed, format=API)
    assert b'"bad"' not in sent.body and b'"content": []' in sent.body.replace(b":[", b": [")


LOOSE: dict[str, Any] = {
    "text": {"type": "text", "text": ["hidden"]},
    "name": {"type": "tool_use", "id": "t", "name": ["hidden"], "input": {}},
    "type": {"type": ["hidden"], "id": "t", "name": "b", "input": {}},
}


@pytest.mark.parametrize("block", LOOSE.values(), ids=LOOSE)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_list_where_a_string_should_stand_does_not_leave(block: Any, streamed: bool) -> None:
    """JavaScript takes ["x"] for "x"."""
    start = {"type": "content_block_start", "index": 0, "content_block": block}
    stop = {"type": "content_block_stop", "index": 0}
    begun = frame({"type": "message_start", "message": message([])})
    body = (
        begun + frame(start) + frame(stop) + wire(*finished())
        if streamed
        else json.dumps(message([block])).encode()
    )
    sent = await through([Forbids()], body, stream=streamed, format=API)
    assert sent.outcome.status.value == "success"
    assert b"hidden" not in sent.body


@pytest.mark.parametrize("name", ["", "event: odd\n"], ids=["no name", "a name that nobody knows"])
async def test_an_event_s_type_that_is_a_list_does_not_leave(name: str) -> None:
    """Neither for who compares it loosely nor for who looks it up in a table of types."""
    called = {**begun(0, "tool_use", id="t", name="bad", input={}), "type": ["content_block_start"]}
    odd = f"{name}data: {json.dumps(called)}\n\n".encode()
    sent = await through([Forbids()], wire(started()) + odd + wire(*finished()), format=API)
    assert sent.outcome.status.value == "success"
    assert b'["content_block_start"]' not in sent.body


BAD = {"type": "tool_use", "id": "t", "name": "bad", "input": {}}


@pytest.mark.parametrize(
    "event",
    [
        message([BAD]),
        {"message": message([BAD])},
        {"type": "odd", "index": 0, "content_block": BAD},
        {"index": 0, "content_block": BAD},
    ],
    ids=["a whole answer", "a whole answer within", "a block", "a block without a type"],
)
async def test_no_event_that_nobody_knows_holds_a_call(event: dict[str, Any]) -> None:
    odd = f"data: {json.dumps(event)}\n\n".encode()
    sent = await through([Forbids()], wire(started()) + odd + wire(*finished()), format=API)
    assert sent.outcome.status.value == "success"
    assert b'"tool_use"' not in sent.body


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


# -- what some clients skip --------------------------------------------------------------------------------------------


class Judges(Policy):
    """Forbids `rm -rf`; keeps what it saw."""

    def __init__(self) -> None:
        self._saw: list[str] = []

    @property
    def saw(self) -> list[str]:
        return self._saw

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        self._saw.append(call.arguments)
        return Block("bash", "no") if "rm -rf" in call.arguments else None

    @hookimpl
    def on_content_completed(self, content: ContentCompleted) -> Block | None:
        return Block("text", "no") if "SECRET" in content.text else None


def left_of(body: bytes) -> list[Any]:
    return [chunk.data for chunk in chunks_of(body, stream=True)]


SKIPPED = [
    delta(0, "x_delta"),
    delta(0, "x_delta", x="blah"),
    delta(0, "signature_delta", signature="abc"),
    delta(0, "compaction_delta", content="blah"),
    {"type": "content_block_delta", "index": 0, "delta": {}},
    argued(0, 5),
    delta(0, "input_json_delta"),
]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("skipped", SKIPPED, ids=lambda each: json.dumps(each["delta"]))
async def test_a_delta_that_clients_skip_hides_no_arguments(skipped: dict[str, Any], step: int) -> None:
    judges = Judges()
    call = [begun(0, "tool_use"), argued(0, '{"c":"rm -'), skipped, argued(0, 'rf /"}'), stopped(0)]
    sent = await through([judges], wire(started(), *call, *finished("tool_use")), format=API, step=step)
    assert '{"c":"rm -rf /"}' in judges.saw
    assert b"rf /" not in sent.body


async def test_what_a_strange_delta_says_of_a_call_is_judged_and_goes_alone() -> None:
    judges = Judges()
    strange = delta(0, "x_delta", x="rm -rf")
    call = [begun(0, "tool_use"), argued(0, '{"c":'), strange, argued(0, "1}"), stopped(0)]
    sent = await through([judges], wire(started(), *call, *finished("tool_use")), format=API)
    assert b"rm" not in sent.body
    assert (sent.left.text, [each.arguments for each in sent.left.tool_calls]) == ("no", ['{"c":1}'])
    assert judges.saw == ['{"type":"x_delta","x":"rm -rf"}', '{"c":1}']


async def test_what_nobody_minds_of_a_strange_delta_leaves_as_it_came() -> None:
    call = [begun(0, "tool_use"), delta(0, "x_delta", x="y"), argued(0, "{}"), stopped(0)]
    body = wire(started(), *call, *finished("tool_use"))
    assert (await through([Judges()], body, format=API)).body == body


@pytest.mark.parametrize(
    ("first", "second", "begin"),
    [(said(0, "SEC"), said(0, "RET"), begun(0)),
     (argued(0, '{"c":"rm -'), argued(0, 'rf /"}'), begun(0, "tool_use"))],
    ids=["text", "call"],
)  # fmt: skip
@pytest.mark.parametrize("missing", ["name", "type"])
async def test_an_event_has_a_name_and_a_type_for_all_clients(
    first: dict[str, Any], second: dict[str, Any], begin: dict[str, Any], missing: str
) -> None:
    field = next(iter(set(first["delta"]) - {"type"}))
    between = {**first, "delta": {**first["delta"], field: "blah"}}
    raw = frame(between)
    if missing == "name":
        raw = raw[raw.index(b"data:") :]
    else:
        raw = raw.replace(b'"type": "content_block_delta", ', b"")
    events = [started(), begin, first, raw, second, stopped(0), *finished()]
    sent = await through([Judges()], wire(*events), format=API)
    named = wire(started(), begin, first, between, second, stopped(0), *finished())
    assert left_of(sent.body) == left_of(named)
    assert sent.body.count(b"event: content_block_delta\n") == 3


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_name_is_put_before_whatever_the_frame_is(end: bytes) -> None:
    raw = wire(started(), begun(0)) + b": x" + end + b"data: " + json.dumps(said(0, "a")).encode() + end * 2
    found = read_all(MESSAGES, chunks_of(raw, stream=True), stream=True)
    assert write_all(MESSAGES, found, stream=True) == raw.replace(b": x", b"event: content_block_delta\n: x")


@pytest.mark.parametrize("content", [[], [{"type": "text", "text": "x"}]], ids=["empty", "with a text"])
async def test_a_second_message_start_does_not_leave(content: list[Any]) -> None:
    events = [
        begun(0),
        begun(1),
        said(1, "SEC"),
        begun(2),
        said(2, "RE"),
        stopped(0),
        stopped(1),
        *finished(),
    ]
    sent = await through([Judges()], wire(started(), started(*content), *events), format=API)
    assert sent.body == wire(started(), *events)
    strict = Guard([Judges()], unknown="block")
    sent = await through(strict, wire(started(), started(*content), *events), format=API)
    assert sent.outcome.status.value == "blocked"


@pytest.mark.parametrize(
    "strange",
    [
        delta(0, "x_delta", text="RET"),
        delta(0, "signature_delta", signature="x", text="RET"),
        delta(0, "text_delta", text="", thinking="RET"),
        delta(0, "text_delta", text="", partial_json="RET"),
        delta(0, "text_delta", text=["RET"]),
        delta(0, "citations_delta", citation={}, text="RET"),
    ],
    ids=lambda each: json.dumps(each["delta"]),
)
async def test_a_text_that_only_some_clients_read_in_a_delta_does_not_leave(strange: dict[str, Any]) -> None:
    sent = await through(
        [Judges()], wire(started(), begun(0), said(0, "SEC"), strange, stopped(0), *finished()), format=API
    )
    assert b"SEC" in sent.body and b"RET" not in sent.body


async def test_a_delta_of_a_block_that_nobody_knows_leaves_as_it_came() -> None:
    new = [begun(0, "new", text=""), delta(0, "new_delta", text="x"), stopped(0)]
    body = wire(started(), *new, *finished())
    assert (await through([Judges()], body, format=API)).body == body


async def test_a_text_beside_arguments_that_are_none_does_not_leave_in_a_block_that_nobody_knows() -> None:
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "zork"}}
    strange = delta(0, "input_json_delta", partial_json=5, text="SEC")
    sent = await through([Judges()], wire(started(), block, strange, stopped(0), *finished()), format=API)
    assert b"SEC" not in sent.body
