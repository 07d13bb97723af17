"""The strict provider: it accepts what the real ones accepted, and refuses what they refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from luthien_guard.testing import Script
from luthien_guard.testing.provider import Complaint, FakeProvider, Played, chat, messages, responses
from tests.asgi_drive import Reply, ask
from tests.recordings import FOLDER, needs_recordings

HEADERS = {
    "x-api-key": "k",
    "authorization": "Bearer k",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "b",
}
WIRE_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
#: Recorded answers to requests that the documentation forbids, or that the server has let pass once.
LENIENT = {"15bfb1766b8fc7d6", "17a192e81da2fcfb"}
USER = {"role": "user", "content": "hello"}


def check(
    wire_format: str, body: Mapping[str, Any], *, previous: list[str] | None = None, path: str = ""
) -> None:
    if wire_format == "openai.chat":
        chat.check(body, HEADERS)
    elif wire_format == "anthropic.messages":
        messages.check(body, HEADERS, counting="count_tokens" in path)
    else:
        responses.check(body, HEADERS, previous)


@needs_recordings
def test_it_accepts_every_request_that_the_providers_themselves_accepted() -> None:
    checked = 0
    for file in sorted(FOLDER.glob("*.json")):
        raw = json.loads(file.read_text())
        asked = raw.get("request") or {}
        body = asked.get("body")
        if (
            not isinstance(body, dict)
            or raw["provider"] not in ("openai", "anthropic")
            or raw["id"] in LENIENT
        ):
            continue
        if raw["response"]["status"] == 200 and "max_tokens_to_sample" not in body:
            previous: list[str] | None = [] if body.get("previous_response_id") else None
            check(raw["api"], body, previous=previous, path=asked.get("path") or "")
            checked += 1
    assert checked > 300


def claude(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 10, "messages": list(turns) or [USER], **more}


def gpt(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(turns) or [USER], **more}


def codex(*items: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "input": list(items) or "hello", **more}


def use(id: str = "t1", **more: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": id, "name": "ls", "input": {}, **more}],
    }


def result(*ids: str, before: Any = ()) -> dict[str, Any]:
    blocks = [{"type": "tool_result", "tool_use_id": id, "content": "x"} for id in ids]
    return {"role": "user", "content": [*before, *blocks]}


def call(id: str = "c1", **more: Any) -> dict[str, Any]:
    made = {"id": id, "type": "function", "function": {"name": "ls", "arguments": "{}"}, **more}
    return {"role": "assistant", "content": None, "tool_calls": [made]}


def answer(id: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": "x"}


FUNCTION = {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "x"}
TEXT = {"type": "text", "text": "and"}
LEGAL: list[tuple[str, dict[str, Any]]] = [
    ("anthropic.messages", claude(USER, use(), result("t1"))),
    ("anthropic.messages", claude(USER, use(), result("t1"), use("t2"), result("t2"))),
    ("anthropic.messages", claude(USER, USER, {"role": "assistant", "content": "so"})),
    ("anthropic.messages", claude(USER, {"role": "system", "content": "now"}, USER)),
    ("openai.chat", gpt(USER, call(), answer(), USER)),
    ("openai.chat", gpt({"role": "developer", "content": "d"}, USER)),
    ("openai.responses", codex()),
    ("openai.responses", codex(USER, FUNCTION, OUTPUT)),
]
ILLEGAL: list[tuple[str, dict[str, Any], str]] = [
    ("anthropic.messages", claude(surprise=1), "Extra inputs"),
    ("anthropic.messages", claude(max_tokens=0), "max_tokens"),
    ("anthropic.messages", claude(temperature=1.5), "temperature"),
    ("anthropic.messages", claude(messages=[]), "at least one message"),
    ("anthropic.messages", claude({"role": "assistant", "content": "I"}), "first message"),
    ("anthropic.messages", claude({"role": "tool", "content": "I"}), "role"),
    ("anthropic.messages", claude({"role": "user", "content": ""}), "non-empty"),
    ("anthropic.messages", claude({"role": "user", "content": [{"type": "text", "text": ""}]}), "non-empty"),
    ("anthropic.messages", claude(USER, use()), "without `tool_result`"),
    ("anthropic.messages", claude(USER, use(), USER), "without `tool_result`"),
    ("anthropic.messages", claude(USER, use(), result("t1", before=[TEXT])), "without `tool_result`"),
    ("anthropic.messages", claude(USER, use(), result("t1", "t1")), "single result"),
    ("anthropic.messages", claude(USER, use(), result("t1", "t9")), "unexpected `tool_use_id`"),
    ("anthropic.messages", claude(USER, use(), result("t1"), use(), result("t1")), "unique"),
    ("anthropic.messages", claude(USER, use("bad id"), result("bad id")), "pattern"),
    ("anthropic.messages", claude(USER, use(input="{}"), result("t1")), "dictionary"),
    ("anthropic.messages", claude(USER, {"role": "assistant", "content": "so "}), "trailing whitespace"),
    ("anthropic.messages", claude(tool_choice={"type": "auto"}), "while providing tools"),
    ("anthropic.messages", claude(tools=[{"name": "a"}, {"name": "a"}]), "unique"),
    ("anthropic.messages", claude(thinking={"type": "enabled", "budget_tokens": 5}), "1024"),
    ("anthropic.messages", claude(thinking={"type": "enabled", "budget_tokens": 2000}), "greater than"),
    (
        "anthropic.messages",
        claude(USER, {"role": "assistant", "content": [{"type": "thinking"}]}),
        "signature",
    ),
    ("openai.chat", gpt(surprise=1), "Unrecognized"),
    ("openai.chat", {"messages": [USER]}, "model"),
    ("openai.chat", gpt(stream_options={}), "stream_options"),
    ("openai.chat", gpt(max_tokens=1, max_completion_tokens=1), "same time"),
    ("openai.chat", gpt(tools=[]), "empty array"),
    ("openai.chat", gpt(tool_choice="auto"), "tools"),
    ("openai.chat", gpt(n=0), "'n'"),
    ("openai.chat", gpt({"role": "boss", "content": "x"}), "Invalid value"),
    ("openai.chat", gpt({"role": "user", "content": None}), "got null"),
    ("openai.chat", gpt({"role": "user", "content": 3}), "Invalid type"),
    ("openai.chat", gpt(USER, call()), "must be followed"),
    ("openai.chat", gpt(USER, call(), USER, answer()), "must be followed"),
    ("openai.chat", gpt(USER, answer()), "preceeding"),
    ("openai.chat", gpt(USER, call(), answer("c2")), "not found in"),
    ("openai.chat", gpt(USER, call("c" * 41), answer("c" * 41)), "too long"),
    ("openai.chat", gpt(USER, call(function={"name": "ls", "arguments": {}}), answer()), "expected a string"),
    ("openai.responses", codex(surprise=1), "Unknown parameter"),
    ("openai.responses", {"input": "x"}, "model"),
    ("openai.responses", codex(USER, OUTPUT), "No tool call found"),
    ("openai.responses", codex(USER, FUNCTION), "No tool output found"),
    ("openai.responses", codex(USER, {"type": "reasoning", "id": "rs_1"}), "following item"),
    ("openai.responses", codex({**FUNCTION, "id": "call_1"}, OUTPUT), "begins with 'fc'"),
    ("openai.responses", codex({"role": "tool", "content": "x"}), "Invalid value"),
    ("openai.responses", codex(tools=[{"type": "function", "function": {}}]), "name"),
    ("openai.responses", codex(previous_response_id="resp_x"), "not found"),
    ("openai.responses", {"model": "m", "input": 3}, "valid list"),
]


@pytest.mark.parametrize(("wire_format", "body"), LEGAL)
def test_legal_histories(wire_format: str, body: dict[str, Any]) -> None:
    check(wire_format, body)


@pytest.mark.parametrize(("wire_format", "body", "words"), ILLEGAL)
def test_illegal_requests(wire_format: str, body: dict[str, Any], words: str) -> None:
    with pytest.raises(Complaint, match=words) as refused:
        check(wire_format, body)
    assert refused.value.body(wire_format)["error"]["message"]


async def asks(provider: FakeProvider, path: str, body: Any, method: str = "POST") -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(provider, path, data, headers=WIRE_HEADERS, method=method)


async def test_answers_come_in_turn_and_the_last_one_stays() -> None:
    provider = FakeProvider(Script().text("one"), lambda asked: Script().text(str(asked.body["n"])))
    said = [(await asks(provider, "/v1/chat/completions", gpt(n=number))).body for number in (1, 2, 3)]
    texts = [json.loads(each)["choices"][0]["message"]["content"] for each in said]
    assert texts == ["one", "2", "3"]
    assert [each.wire_format for each in provider.requests] == ["openai.chat"] * 3


async def test_a_refusal_is_an_answer_in_the_provider_s_shape() -> None:
    provider = FakeProvider()
    refused = await asks(provider, "/v1/messages", claude(USER, use()))
    assert (refused.status, json.loads(refused.body)["error"]["type"]) == (400, "invalid_request_error")
    broken = await asks(provider, "/v1/chat/completions", b"{")
    assert (broken.status, len(provider.complaints), provider.requests) == (400, 2, [])


async def test_a_response_that_is_kept_knows_its_open_calls() -> None:
    provider = FakeProvider(Script().tool_call("ls"), Script().text("done"))
    first = json.loads((await asks(provider, "/v1/responses", codex(stream=False))).body)
    id, call_id = first["id"], first["output"][-1]["call_id"]
    kept = await asks(provider, f"/v1/responses/{id}", b"", "GET")
    assert json.loads(kept.body)["id"] == id
    ignored = await asks(provider, "/v1/responses", codex(previous_response_id=id))
    output = {"type": "function_call_output", "call_id": call_id, "output": "x"}
    answered = await asks(provider, "/v1/responses", codex(output, previous_response_id=id))
    assert (ignored.status, answered.status) == (400, 200)
    assert (await asks(provider, f"/v1/responses/{id}", b"", "DELETE")).status == 200
    assert (await asks(provider, f"/v1/responses/{id}", b"", "GET")).status == 404


async def test_thinking_that_comes_back_changed_is_refused() -> None:
    provider = FakeProvider(Script().reasoning("the plan", signature="s1").text("ok"))
    said = json.loads((await asks(provider, "/v1/messages", claude())).body)["content"]
    same = await asks(provider, "/v1/messages", claude(USER, {"role": "assistant", "content": said}, USER))
    said[0]["thinking"] = "another plan"
    changed = await asks(provider, "/v1/messages", claude(USER, {"role": "assistant", "content": said}, USER))
    assert (same.status, changed.status) == (200, 400)
    assert "Invalid `signature`" in provider.complaints[0]


async def test_bytes_can_be_played_as_they_are() -> None:
    provider = FakeProvider(Played([b"data: 1\n\n", b"data: 2\n\n"], headers={"x-odd": "1"}))
    reply = await asks(provider, "/v1/chat/completions", gpt(stream=True))
    assert reply.parts[:2] == [b"data: 1\n\n", b"data: 2\n\n"]
    assert reply.header("x-odd") == "1"
    assert (provider.left, provider.open) == (0, 0)
