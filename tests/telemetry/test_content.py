"""Content stays in the process unless somebody asks for it; credentials stay in any case."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard import ChatRequest, ContentChunk, Policy, PolicyContext, hookimpl
from luthien_guard.policy import Block
from luthien_guard.sinks.opentelemetry import Capture
from luthien_guard.sinks.opentelemetry.content import messages
from tests.telemetry.rig import Collected, answer, asking, served, stream

pytestmark = pytest.mark.anyio

CANARY = "canary-7f3a91"
NO, SPAN, EVENT = Capture(), Capture(span=True), Capture(event=True)


class Talkative(Policy):
    """Puts what it sees wherever a policy can put words."""

    def __init__(self, end: str = "") -> None:
        self.end = end

    @hookimpl
    def on_request_started(self, request: ChatRequest, ctx: PolicyContext) -> ChatRequest | Block | None:
        ctx.record(f"saw {CANARY}", words=CANARY)
        if self.end == "raise":
            raise ValueError(CANARY)
        if self.end == "block":
            return Block(f"because of {CANARY}")
        return request.replace(user=CANARY)

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block(f"it said {CANARY}") if self.end == "late" and CANARY in chunk.text else None


@pytest.mark.parametrize("end", ["", "raise", "block", "late"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_no_content_unless_it_is_asked_for(end: str, streamed: bool) -> None:
    collected = Collected(capture=NO)
    said = stream(CANARY, " more") if streamed else [answer(CANARY)]
    ask = asking(CANARY, stream=streamed, metadata={CANARY: CANARY}, session=CANARY, stop=[CANARY])
    await served(collected, *said, policies=[Talkative(end)], ask=ask)
    assert collected.spans
    assert CANARY not in collected.everything()


async def test_nor_where_a_field_is_not_what_it_seems() -> None:
    """What should be a name, a number or a status is content as soon as it does not look like one."""
    words = f"{CANARY}; a model?"
    body = json.loads(answer("x"))
    body |= {"model": words, "usage": {"prompt_tokens": words, "completion_tokens": -1}}
    body["choices"][0]["finish_reason"] = words
    collected = Collected(capture=NO)
    ask = asking("x", temperature=words, seed=True, n=2**70)
    ask = ask.replace(b'"gpt-4"', json.dumps(words).encode())
    await served(collected, json.dumps(body).encode(), policies=[Talkative()], ask=ask)
    assert CANARY not in collected.everything()
    attributes = collected.exchange.attributes or {}
    assert attributes["gen_ai.request.model"] == attributes["gen_ai.response.model"] == "_OTHER"


@pytest.mark.parametrize(
    "place", ["authorization", "x-api-key", "cookie", "x-other", "query", "upstream", "error"]
)
async def test_credentials_are_nowhere_even_with_content(place: str) -> None:
    secret = f"sk-proj-{CANARY}-0123456789abcdef0123"
    collected = Collected(capture=Capture(span=True, event=True))
    headers = [(b"content-type", b"application/json")]
    more: dict[str, Any] = {}
    if place in ("authorization", "x-api-key", "cookie", "x-other"):
        headers.append((place.encode(), secret.encode()))
    if place == "query":
        more["query_string"] = f"key={secret}".encode()
    said = answer(secret if place == "upstream" else "fine")
    if place == "error":
        said, more["status"] = json.dumps({"error": {"message": f"bad key {secret}"}}).encode(), 401
    await served(collected, said, policies=[Talkative("late")], ask=asking("hi"), headers=headers, **more)
    assert collected.spans
    assert secret not in collected.everything()


async def test_with_the_switch_messages_are_attributes() -> None:
    collected = Collected(capture=SPAN)
    await served(collected, answer("yes"), policies=[{"use": "noop"}, Talkative()], ask=asking("may I?"))
    attributes = collected.exchange.attributes or {}
    assert json.loads(str(attributes["gen_ai.input.messages"])) == [
        {"role": "user", "parts": [{"type": "text", "content": "may I?"}]}
    ]
    assert json.loads(str(attributes["gen_ai.output.messages"])) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "yes"}], "finish_reason": "stop"}
    ]
    assert collected.events_out.get_finished_logs() == ()


async def test_or_one_event_in_the_trace() -> None:
    collected = Collected(capture=EVENT)
    await served(collected, answer("yes"), policies=[Talkative()], ask=asking("may I?"))
    (found,) = collected.events_out.get_finished_logs()
    assert found.log_record.event_name == "gen_ai.client.inference.operation.details"
    assert collected.exchange.context is not None
    assert found.log_record.span_id == collected.exchange.context.span_id
    assert "may I?" in found.to_json()
    assert "may I?" not in "".join(span.to_json() for span in collected.spans)


async def test_a_reason_is_content() -> None:
    collected = Collected(capture=SPAN)
    await served(collected, answer(CANARY), policies=[Talkative("late")])
    reasons = [(event.attributes or {}).get("luthien.reason") for event in collected.exchange.events]
    assert f"it said {CANARY}" in reasons


async def test_what_was_stopped_was_no_input_of_the_model() -> None:
    collected = Collected(capture=SPAN)
    await served(collected, answer("yes"), policies=[Talkative("block")], ask=asking("secret plan"))
    assert "gen_ai.input.messages" not in (collected.exchange.attributes or {})


async def test_what_left_is_the_output_not_what_came() -> None:
    collected = Collected(capture=SPAN)
    policy = {"use": "uppercase-nth-word", "config": {"n": 1}}
    await served(collected, answer("quiet"), policies=[policy])
    found = str((collected.exchange.attributes or {})["gen_ai.output.messages"])
    assert "QUIET" in found
    assert "quiet" not in found


def test_every_wire_format_s_messages() -> None:
    call = {"id": "t1", "function": {"name": "f", "arguments": '{"a":1}'}}
    chat = {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    chat["messages"].append({"role": "tool", "tool_call_id": "t1", "content": "42"})
    tool_call = {"type": "tool_call", "id": "t1", "name": "f", "arguments": '{"a":1}'}
    answered = {"type": "tool_call_response", "id": "t1", "response": "42"}
    expected = [{"role": "assistant", "parts": [tool_call]}, {"role": "tool", "parts": [answered]}]
    assert messages(chat, {}, "openai.chat")["gen_ai.input.messages"] == expected

    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    image = {"type": "image", "source": {"data": "AAAA"}}
    blocks = [thinking, image, {"type": "tool_result", "tool_use_id": "t1", "content": "42"}]
    claude = {"system": "be good", "messages": [{"role": "user", "content": blocks}]}
    found = messages(claude, {}, "anthropic.messages")
    assert found["gen_ai.system_instructions"] == [{"type": "text", "content": "be good"}]
    (message,) = found["gen_ai.input.messages"]
    assert message["parts"] == [{"type": "reasoning", "content": "hm"}, {"type": "image"}, answered]

    item = {"type": "function_call", "call_id": "t1", "name": "f", "arguments": '{"a":1}'}
    output = {"type": "function_call_output", "call_id": "t1", "output": "42"}
    assert messages({"input": [item, output]}, {}, "openai.responses")["gen_ai.input.messages"] == expected
    assert messages({"input": "hi"}, {}, "openai.responses")["gen_ai.input.messages"] == [
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]}
    ]


@pytest.mark.parametrize(
    "raw", [None, 1, [], [None], {"messages": {}}, {"messages": [[], 1, {"content": [1, {}]}]}]
)
def test_odd_requests_make_no_error(raw: Any) -> None:
    for wire_format in ("openai.chat", "anthropic.messages", "openai.responses"):
        messages(
            raw if isinstance(raw, dict) else {"messages": raw, "input": raw, "system": raw}, {}, wire_format
        )


def test_long_content_is_cut() -> None:
    talk = [{"role": "user", "content": f"{number}" * 10_000} for number in range(200)]
    (found,) = messages({"messages": talk}, {}, "openai.chat").values()
    assert len(json.dumps(found)) < 150_000
    assert found[-1]["parts"][0]["content"].endswith("...[cut]"), "the newest is kept"


@pytest.mark.parametrize("where", ["parts", "messages", "system", "choices", "texts", "said"])
def test_however_it_comes(where: str) -> None:
    many = [{"type": "text", "text": "word " * 1000, "content": "word"}] * 2000
    request: dict[str, Any] = {"messages": [{"role": "user", "content": many if where == "parts" else "x"}]}
    request |= {"messages": many} if where == "messages" else {}
    request |= {"system": many} if where == "system" else {}
    choices = [{"texts": many if where == "texts" else many[:1]}] * (2000 if where == "choices" else 1)
    answer = {"choices": choices, "said": ["word " * 1000] * (2000 if where == "said" else 0)}
    found = messages(request, answer, "openai.chat")
    assert all(each[0].get("parts", True) for each in found.values())
    assert max(len(json.dumps(each)) for each in found.values()) < 300_000


def test_lone_surrogates_become_something_that_can_be_exported() -> None:
    request = {"messages": [{"role": "user", "content": "\ud800 hi"}], "system": ["\udfff"]}
    for found in messages(request, {"said": ["\ud800"]}, "openai.chat").values():
        json.dumps(found, ensure_ascii=False).encode()
