"""Tool calls where a wire format has none: members of no event of its own, other formats' answers, lists of events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, Guard, Policy, ToolCall, hookimpl
from luthien_guard.events import UnknownChunk
from luthien_guard.wire.foreign import NO_ANSWER
from tests.cases.chat_wire import DONE, Sent, through
from tests.cases.chat_wire import call as chat_call
from tests.cases.chat_wire import chunk as chat_chunk
from tests.official_sdks import reads
from tests.wire.messages_events import begun, finished, message, said, started, stopped, wire
from tests.wire.responses_events import call_item, message_item, response, stream
from tests.wire.responses_events import message as message_events

pytestmark = pytest.mark.anyio
CHAT, MESSAGES, RESPONSES = "openai.chat", "anthropic.messages", "openai.responses"
steps = pytest.mark.parametrize("step", [0, 1], ids=["whole", "byte by byte"])


class NoCalls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("calls", "no")


class NoMark(Policy):
    """Has no say about calls at all."""

    lookahead = 8

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("mark", "NO") if "Nightjar" in chunk.text else None


OPENAI = chat_call(0, "c", "bash", '{"cmd":"rm -rf"}')
USE = {"type": "tool_use", "id": "t", "name": "bash", "input": {"cmd": "rm -rf"}}
ITEM = call_item(0, '{"cmd":"rm -rf"}', name="bash")
OLLAMA = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "bash", "arguments": {"cmd": "rm -rf"}}}]}  # fmt: skip
GEMINI = {"content": {"parts": [{"functionCall": {"name": "bash", "args": {"cmd": "rm -rf"}}}]}}
FRAGMENT = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "rm -rf"}
#: A member's name, and a call as it may stand there.
MEMBERS: dict[str, tuple[str, Any]] = {
    "a block": ("content_block", USE),
    "blocks": ("x", [[USE]]),
    "an item": ("item", ITEM),
    "an answer of Responses": ("x", {"output": [ITEM]}),
    "calls of a chat completion": ("tool_calls", [OPENAI]),
    "calls under numbers": ("tool_calls", {"0": OPENAI}),
    "the one call of old": ("function_call", {"name": "bash", "arguments": "rm -rf"}),
    "a message of Ollama's": ("message2", OLLAMA),
    "candidates of Gemini's": ("candidates", [GEMINI]),
    "Bedrock's": ("x", {"toolUse": {"name": "bash", "input": {"cmd": "rm -rf"}}}),
    "a call without a type": ("params", {"name": "bash", "arguments": {"cmd": "rm -rf"}}),
    "a program": ("x", {"type": "program", "code": "rm -rf"}),
    "a fragment of a block": ("x", {"type": "input_json_delta", "partial_json": "rm -rf"}),
    "a fragment of an item": ("event", FRAGMENT),
}
members = pytest.mark.parametrize(("key", "value"), MEMBERS.values(), ids=MEMBERS)


def of_chat(**more: Any) -> bytes:
    return chat_chunk({"content": "hi"}) + chat_chunk({"content": " ho"}, **more) + chat_chunk({}, finish="stop") + DONE  # fmt: skip


def of_messages(**more: Any) -> bytes:
    end, stop = finished()
    return wire(started(), begun(0), said(0, "hi ho"), {**stopped(0), **more}, end, {**stop, **more})


def of_responses(kind: str = "completed", **more: Any) -> bytes:
    said = message_events(0, "hi ho")
    return stream(response("created", []), *said, {**response(kind, [message_item(0, "hi ho")]), **more})


def body_of_chat(**more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi ho"}, "finish_reason": "stop"}
    heading = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    return json.dumps({**heading, "choices": [choice], **more}).encode()


def body_of_messages(**more: Any) -> bytes:
    return json.dumps({**message([{"type": "text", "text": "hi ho"}]), **more}).encode()


def body_of_responses(**more: Any) -> bytes:
    return json.dumps({**response("completed", [message_item(0, "hi ho")])["response"], **more}).encode()


STREAMS = {CHAT: of_chat, MESSAGES: of_messages, RESPONSES: of_responses}
BODIES = {CHAT: body_of_chat, MESSAGES: body_of_messages, RESPONSES: body_of_responses}


@steps
@members
@pytest.mark.parametrize("format", STREAMS)
async def test_a_known_event_leaves_without_the_call_of_a_foreign_member(
    format: str, key: str, value: Any, step: int
) -> None:
    sent = await through([NoCalls()], STREAMS[format](**{key: value}), format=format, step=step)
    assert sent.outcome.status.value == "success"
    assert sent.left.text == "hi ho"
    assert b"rm -rf" not in sent.body
    assert reads(format, sent.body, stream=True)


@members
@pytest.mark.parametrize("format", BODIES)
async def test_so_does_a_body(format: str, key: str, value: Any) -> None:
    sent = await through([NoCalls()], BODIES[format](**{key: value}), format=format, stream=False)
    assert sent.outcome.status.value == "success"
    assert sent.body == BODIES[format]()  # nothing else has changed
    assert reads(format, sent.body, stream=False)


@pytest.mark.parametrize("kind", ["completed", "incomplete"])
async def test_the_end_of_a_response_holds_no_item_besides(kind: str) -> None:
    sent = await through([NoCalls()], of_responses(kind, item=ITEM), format=RESPONSES)
    assert b"rm -rf" not in sent.body


@pytest.mark.parametrize("policies", [[], ["noop"]], ids=["no policy", "noop"])
@pytest.mark.parametrize("format", STREAMS)
async def test_who_enforces_nothing_changes_nothing(format: str, policies: list[Any]) -> None:
    body = STREAMS[format](x=USE)
    for guard in (Guard(policies), Guard([NoCalls()], mode="observe")):
        assert (await through(guard, body, format=format)).body == body


@pytest.mark.parametrize("format", STREAMS)
async def test_it_goes_whatever_the_policy_that_enforces_is_about(format: str) -> None:
    sent = await through([NoMark()], STREAMS[format](x=USE), format=format)
    assert b"rm -rf" not in sent.body


@pytest.mark.parametrize("format", STREAMS)
async def test_what_left_without_its_calls_is_on_record(format: str) -> None:
    guard = Guard([NoCalls()])
    await through(guard, STREAMS[format](x=USE), format=format)
    assert "a tool call at 'x'" in noted(guard)


@pytest.mark.parametrize("format", STREAMS)
async def test_who_is_strict_blocks_it(format: str) -> None:
    guard = Guard([NoCalls()], unknown="block")
    sent = await through(guard, STREAMS[format](x=USE), format=format)
    assert sent.outcome.status.value == "blocked"


def noted(guard: Guard) -> list[Any]:
    return [fact.details.get("unknown") for fact in guard.records_of(guard.recent_calls[-1])]


# -- what only seems to be one -------------------------------------------------------------------------------------------


SCHEMA = {
    "type": "object",
    "properties": {
        "tool_calls": {"type": "array", "items": {"type": "object"}},
        "function_call": {"type": "object", "properties": {"name": {"type": "string"}, "arguments": {}}},
        "type": {"enum": ["tool_use"]},
    },
}


@pytest.mark.parametrize("format", STREAMS)
async def test_tools_that_are_repeated_stay(format: str) -> None:
    body = STREAMS[format](tools=[{"type": "function", "name": "sh", "parameters": SCHEMA}])
    assert (await through([NoCalls()], body, format=format)).body == body


@pytest.mark.parametrize("format", STREAMS)
async def test_who_called_is_no_call(format: str) -> None:
    body = STREAMS[format](caller={"type": "program", "caller_id": "call_0"})
    assert (await through([NoCalls()], body, format=format)).body == body


async def test_an_event_of_a_kind_to_come_passes() -> None:
    odd = {"type": "response.new_call.in_progress", "output_index": 0, "item_id": "x"}
    body = stream(response("created", []), odd, response("completed", []))
    assert (await through([NoCalls()], body, format=RESPONSES)).body == body


# -- calls in the place of something else ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tool_use", "custom_tool_call", "tool-call"])
async def test_a_delta_of_a_chat_completion_is_no_call(kind: str) -> None:
    odd = chat_chunk({"type": kind, "name": "bash", "arguments": "rm -rf"})
    sent = await through([NoCalls()], of_chat().replace(DONE, odd + DONE))
    assert sent.left.text == "hi ho"
    assert b"rm -rf" not in sent.body
    assert kind.encode() not in sent.body


@pytest.mark.parametrize("stream", [True, False])
async def test_a_part_of_a_chat_completion_is_no_call(stream: bool) -> None:
    content = [{"type": "text", "text": "hi"}, USE]
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    body = of_parts(content) if stream else body_of_chat(choices=[choice])
    sent = await through([NoCalls()], body, stream=stream)
    assert b"rm -rf" not in sent.body
    assert b'"hi"' in sent.body


def of_parts(content: list[Any]) -> bytes:
    return chat_chunk({"content": content}) + chat_chunk({}, finish="stop") + DONE


@pytest.mark.parametrize("item", [USE, {"type": "new", "name": "bash", "arguments": "rm -rf"}], ids=["a block", "a new one"])  # fmt: skip
async def test_an_item_of_another_format_is_a_call(item: dict[str, Any]) -> None:
    sent = await through([NoCalls()], body_of_responses(output=[item]), format=RESPONSES, stream=False)
    assert b"rm -rf" not in sent.body
    assert sent.left.text == "no"


@pytest.mark.parametrize("part", [USE, ITEM], ids=["a block", "an item"])
async def test_a_part_of_a_message_item_is_no_call(part: dict[str, Any]) -> None:
    item = {
        **message_item(0, "hi"),
        "content": [part, {"type": "output_text", "text": "hi", "annotations": []}],
    }
    sent = await through([NoCalls()], body_of_responses(output=[item]), format=RESPONSES, stream=False)
    assert sent.left.text == "hi"
    assert b"rm -rf" not in sent.body


@pytest.mark.parametrize("whole", [False, True])
async def test_a_block_of_a_type_that_nobody_knows_is_a_call_where_it_says_so(whole: bool) -> None:
    block = {"type": "function", "id": "t", "name": "bash", "arguments": "rm -rf"}
    body = body_of_messages(content=[block]) if whole else wire(started(block), *finished())
    sent = await through([NoCalls()], body, format=MESSAGES, stream=not whole)
    assert b"rm -rf" not in sent.body


async def test_an_element_of_a_message_that_is_no_block_leaves_without_calls() -> None:
    content = [[USE], {"type": "text", "text": "hi"}, USE]
    sent = await through([NoCalls()], body_of_messages(content=content), format=MESSAGES, stream=False)
    assert [each["text"] for each in json.loads(sent.body)["content"]] == ["hi", "no"]
    streamed = await through([NoCalls()], wire(started([USE]), begun(0), said(0, "hi"), stopped(0), *finished()), format=MESSAGES)  # fmt: skip
    assert b"rm -rf" not in streamed.body
    assert streamed.left.text == "hi"


@pytest.mark.parametrize("format", [MESSAGES, RESPONSES])
async def test_a_citation_is_no_call(format: str) -> None:
    text = {"type": "text", "text": "hi", "citations": [USE]}
    part = {"type": "output_text", "text": "hi", "annotations": [ITEM]}
    body = (
        body_of_messages(content=[text])
        if format == MESSAGES
        else body_of_responses(output=[{**message_item(0, "hi"), "content": [part]}])
    )
    sent = await through([NoCalls()], body, format=format, stream=False)
    assert sent.left.text == "hi"
    assert b"rm -rf" not in sent.body


@pytest.mark.parametrize("place", ["usage", "error", "message"])
async def test_an_object_that_the_format_takes_for_something_else_does_not_say_it_is_a_call(
    place: str,
) -> None:
    """Its `type` is a name in both, and the rest might be the call's."""
    end, stop = finished()
    start = started()
    if place == "message":
        start["message"] |= USE
    body = wire(start, {**end, "usage": {**end["usage"], **USE}} if place == "usage" else end, stop)
    if place == "error":
        body = wire(start, {"type": "error", "error": {**USE, "message": "oh"}})
    sent = await through([NoCalls()], body, format=MESSAGES)
    assert b"tool_use" not in sent.body


@pytest.mark.parametrize("kind", ["odd_delta", "tool_use"])
async def test_nor_does_a_delta_or_the_format_of_a_response(kind: str) -> None:
    odd = {"type": "content_block_delta", "index": 0, "delta": {**USE, "type": kind}}
    body = wire(started(), begun(0), odd, stopped(0), *finished())
    assert b"tool_use" not in (await through([NoCalls()], body, format=MESSAGES)).body
    whole = body_of_responses(text={"format": USE})
    assert b"tool_use" not in (await through([NoCalls()], whole, format=RESPONSES, stream=False)).body


@pytest.mark.parametrize("stream", [True, False])
async def test_the_message_of_an_error_is_no_call(stream: bool) -> None:
    error = {"message": {"tool_calls": [OPENAI]}}
    body = of_chat(error=error) if stream else body_of_chat(error=error)
    assert b"rm -rf" not in (await through([NoCalls()], body, stream=stream)).body


async def test_a_delta_of_a_block_without_a_delta_is_seen_all_the_same() -> None:
    """As many members as the usual event has, and one of them is another."""
    odd = {"type": "content_block_delta", "index": 0, "x": "Nightjar"}
    sent = await through([NoMark()], wire(started(), begun(0), odd, stopped(0), *finished()), format=MESSAGES)
    assert sent.outcome.status.value == "blocked"
    assert b"Nightjar" not in sent.body


# -- what is no answer of the format ---------------------------------------------------------------------------------------


ANSWERS: dict[str, Any] = {
    "Ollama's": {"model": "m", "message": OLLAMA, "done": True},
    "Gemini's": {"candidates": [GEMINI]},
    "one of Responses within": {"data": {"output": [ITEM]}},
    "a list": [{"message": OLLAMA}],
    "a call": USE,
    "a call without a type": {"name": "bash", "arguments": {"cmd": "rm -rf"}},
}
answers = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)


@answers
@pytest.mark.parametrize("format", BODIES)
async def test_a_body_that_is_no_answer_of_the_format_is_blocked_with_its_calls(
    format: str, answer: Any
) -> None:
    """What would be left is no answer either: so the client reads one in its own format that says so."""
    guard = Guard([NoCalls()])
    sent = await through(guard, json.dumps(answer).encode(), format=format, stream=False)
    assert sent.outcome.status.value == "blocked"
    assert sent.outcome.reason == f"a chunk that cannot be accepted: {NO_ANSWER}"
    assert b"rm -rf" not in sent.body
    assert sent.left.text
    assert reads(format, sent.body, stream=False)


@pytest.mark.parametrize("format", BODIES)
async def test_without_calls_it_passes_and_its_text_is_inspected(format: str) -> None:
    body = b'{"message":{"role":"assistant","content":"%b"},"done":true}'
    clean = await through([NoMark(), NoCalls()], body % b"hi", format=format, stream=False)
    marked = await through([NoMark(), NoCalls()], body % b"a Nightjar", format=format, stream=False)
    assert (clean.body, marked.outcome.status.value) == (body % b"hi", "blocked")


@pytest.mark.parametrize("event", [[USE], [{"item": ITEM}], [FRAGMENT], USE], ids=["a list", "deeper", "a fragment", "a call"])  # fmt: skip
@pytest.mark.parametrize("format", STREAMS)
async def test_an_event_that_is_nothing_but_a_call_ends_the_answer(format: str, event: Any) -> None:
    sent = await beside(format, event, [NoCalls()])
    assert sent.outcome.status.value == "blocked"
    assert b"rm -rf" not in sent.body
    assert reads(format, sent.body, stream=True)


async def beside(format: str, event: Any, policies: list[Any]) -> Sent:
    begin = {
        CHAT: chat_chunk({"content": "hi"}),
        MESSAGES: wire(started()),
        RESPONSES: stream(response("created", [])),
    }
    return await through(policies, begin[format] + f"data: {json.dumps(event)}\n\n".encode(), format=format)


class Waives(NoCalls):
    @hookimpl
    def on_unknown_chunk(self, chunk: UnknownChunk) -> bool:
        return True


async def test_a_policy_may_take_it_upon_itself() -> None:
    body = json.dumps([USE]).encode()
    assert (await through([Waives()], body, stream=False)).body == body
