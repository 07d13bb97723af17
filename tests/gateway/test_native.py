"""Native upstreams: what goes through, byte by byte and header by header."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.testing import Script
from luthien_guard.testing.provider import FakeProvider, Played, serving
from tests.gateway.harness import (
    ENDS,
    FORMATS,
    PATHS,
    POLICIES,
    Wire,
    gateway,
    gateway_to,
    head,
    native,
    official_clients,
    request,
)
from tests.recordings import Recording, needs_recordings, recordings

ODD = b'{ "model":"scripted-model" , "stream":true,"messages":[{"role":"user","content":"h\\u00e9llo \xf0\x9f\x98\x80"}],"seed":1.0}'


def some(wire_format: str, count: int = 12) -> list[Recording]:
    """Streamed and whole ones, spread over the folder."""
    found = [each for each in recordings(wire_format) if each.status == 200 and each.body]
    found = [each for each in found if not each.stream or each.body.lstrip()[:1] not in (b"{", b"[")]
    return found[:: max(1, len(found) // count)][:count]


@needs_recordings
@pytest.mark.parametrize("policies", POLICIES)
@pytest.mark.parametrize("wire_format", FORMATS)
def test_recorded_answers_come_through_byte_for_byte(wire_format: str, policies: str) -> None:
    answers = some(wire_format)
    played = [Played([each.body], stream=each.stream) for each in answers]
    with gateway_to(FakeProvider(*played, played[-1]), POLICIES[policies]) as gate:
        for each in answers:
            answer = gate.model(wire_format, stream=each.stream)
            assert answer.status == 200
            assert answer.body == each.body, each.id


@pytest.mark.parametrize("policies", POLICIES)
def test_the_request_goes_up_byte_for_byte(policies: str) -> None:
    provider = FakeProvider()
    with gateway_to(provider, POLICIES[policies]) as gate:
        gate.ask("/v1/chat/completions", ODD)
    assert provider.requests[0].raw == ODD


@pytest.mark.parametrize("wire_format", FORMATS)
@pytest.mark.parametrize("stream", [True, False])
def test_each_format_is_asked_at_its_own_place(wire_format: str, stream: bool) -> None:
    provider = FakeProvider(Script().text("Hi."))
    with gateway_to(provider) as gate:
        answer = gate.model(wire_format, stream=stream)
        assert gate.outcome(answer) == "success"
    assert provider.requests[0].path == PATHS[wire_format]
    assert not provider.complaints
    assert not stream or ENDS[wire_format] in answer.body


def test_request_ids_and_limits_come_back_and_nothing_that_leads_astray() -> None:
    told = {
        "x-request-id": "req_1",
        "x-ratelimit-remaining-requests": "9",
        "set-cookie": "a=b",
        "alt-svc": 'h3=":443"',
        "location": "http://elsewhere/",
        "x-luthien-call-id": "forged",
        "x-luthien-dropped": "forged",
    }
    provider = FakeProvider(Played([b'{"ok":1}'], stream=False, headers=told))
    with gateway_to(provider) as gate:
        answer = gate.model("openai.chat", stream=False)
    assert answer.headers["x-request-id"] == "req_1"
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"
    assert answer.headers["x-luthien-call-id"] != "forged"
    assert not {"set-cookie", "alt-svc", "location", "x-luthien-dropped"} & answer.headers.keys()


STEERING = [
    "x-accel-redirect",
    "X-Accel-Buffering",
    "x-sendfile",
    "x-lighttpd-send-file",
    "x-reproxy-url",
    "content-location",
    "clear-site-data",
    "link",
    "report-to",
    "reporting-endpoints",
    "nel",
]


@pytest.mark.parametrize("policies", POLICIES)
@pytest.mark.parametrize("stream", [True, False])
def test_nothing_comes_back_that_steers_a_proxy_or_a_browser(policies: str, stream: bool) -> None:
    told = dict.fromkeys(STEERING, "http://elsewhere/")
    body = b"data: [DONE]\n\n" if stream else b'{"ok":1}'
    provider = FakeProvider(Played([body], stream=stream, headers=told))
    with gateway_to(provider, POLICIES[policies]) as gate:
        answer = gate.model("openai.chat", stream=stream)
    assert answer.status == 200
    assert not {each.lower() for each in STEERING} & answer.headers.keys()


@pytest.mark.parametrize("policies", POLICIES)
def test_of_two_content_types_the_one_that_was_judged_comes_back(policies: str) -> None:
    body = b"data: [DONE]\n\n"
    said = head(200, "text/event-stream", content_length=str(len(body))).replace(
        b"\r\n\r\n", b"\r\ncontent-type: text/html\r\n\r\n"
    )
    wire = Wire(lambda connection, _: connection.sendall(said + body))
    with wire, gateway([native(wire.url)], POLICIES[policies]) as gate:
        answer = gate.model("openai.chat")
        assert gate.outcome(answer) == "success"
    assert answer.all("content-type") == ["text/event-stream"]


def test_only_what_belongs_to_the_provider_goes_up() -> None:
    provider = FakeProvider()
    own = {
        "anthropic-beta": "a-beta",
        "x-stainless-lang": "js",
        "cookie": "session=1",
        "x-forwarded-for": "10.0.0.1",
        "x-luthien-recording": "x",
        "connection": "close, x-nominated",
        "x-nominated": "1",
        "accept-encoding": "br",
    }
    with gateway_to(provider) as gate:
        gate.ask("/v1/messages?beta=true", request("anthropic.messages"), headers=own)
    seen = provider.requests[0]
    assert seen.query == b"beta=true"
    assert seen.headers["anthropic-beta"] == "a-beta" and seen.headers["x-stainless-lang"] == "js"
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.headers["authorization"] == "Bearer sk-caller"
    assert not {"cookie", "x-forwarded-for", "x-luthien-recording", "x-nominated"} & seen.headers.keys()


@pytest.mark.parametrize(
    ("wire_format", "header", "value"),
    [
        ("openai.chat", "authorization", "Bearer sk-own"),
        ("openai.responses", "authorization", "Bearer sk-own"),
        ("anthropic.messages", "x-api-key", "sk-own"),
    ],
)
def test_a_configured_key_replaces_the_caller_s(wire_format: str, header: str, value: str) -> None:
    provider = FakeProvider()
    with (
        serving(provider) as url,
        gateway([native(url, api_key="sk-own", headers={"x-team": "blue"})]) as gate,
    ):
        gate.ask(
            PATHS[wire_format],
            request(wire_format),
            headers={"x-api-key": "sk-caller", "api-key": "sk-caller"},
        )
    headers = provider.requests[0].headers
    assert headers[header] == value
    assert headers["x-team"] == "blue"
    assert "sk-caller" not in str(headers)


def test_a_model_may_be_asked_for_under_another_name() -> None:
    provider = FakeProvider()
    with serving(provider) as url, gateway([native(url, match="fast", model="gpt-real")]) as gate:
        gate.ask("/v1/chat/completions", ODD.replace(b"scripted-model", b"fast"))
    assert provider.requests[0].raw == ODD.replace(b"scripted-model", b"gpt-real")


def test_the_first_upstream_that_matches_and_speaks_is_asked() -> None:
    claude, gpt, rest = FakeProvider(), FakeProvider(), FakeProvider()
    with serving(claude) as a, serving(gpt) as b, serving(rest) as c:
        upstreams = [
            UpstreamSettings(match="claude-*", native="anthropic.messages", base_url=a),
            UpstreamSettings(
                match=["gpt-*", "o3"], native=["openai.chat", "openai.responses"], base_url=b + "/v1"
            ),
            native(c),
        ]
        with gateway(upstreams) as gate:
            gate.model("anthropic.messages", model="claude-9")
            gate.model("openai.chat", model="gpt-9")
            gate.model("openai.responses", model="o3")
            gate.model("openai.chat", model="claude-9")  # the first one does not speak so
            gate.model("openai.chat", model="GPT-9")
    assert [len(each.requests) for each in (claude, gpt, rest)] == [1, 2, 2]


def test_a_retry_of_a_policy_takes_the_same_road() -> None:
    from luthien_guard import Policy, Retry, hookimpl

    class Elsewhere(Policy):
        hold = "response"

        @hookimpl
        def on_response_completed(self, response: Any, ctx: Any) -> Any:
            return Retry("try the other", model="big") if response.text == "weak" else None

    small, big = FakeProvider(Script().text("weak")), FakeProvider(Script().text("strong"))
    with (
        serving(small) as a,
        serving(big) as b,
        gateway([native(a, match="small"), native(b, match="big")], [Elsewhere()]) as gate,
    ):
        answer = gate.model("openai.chat", model="small", stream=False)
    assert answer.json["choices"][0]["message"]["content"] == "strong"
    assert len(small.requests) == len(big.requests) == 1


def test_the_official_clients_hold_a_conversation_with_tools() -> None:
    call = Script().text("Let me look.").tool_call("bash", {"command": "ls"}).split(5)
    provider = FakeProvider(
        call, Script().text("Done."), call, Script().text("Done."), call, Script().text("Done.")
    )
    with gateway_to(provider, POLICIES["watched"]) as gate, official_clients(gate) as (chat, claude):
        assert _chat(chat) == _messages(claude) == _responses(chat) == "Done."
    assert not provider.complaints


def _chat(client: openai.OpenAI) -> str:
    tools: Any = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]
    history: list[Any] = [{"role": "user", "content": "look"}]
    with client.chat.completions.stream(model="m", messages=history, tools=tools) as stream:
        message = stream.get_final_completion().choices[0].message
    calls = [
        {
            "id": each.id,
            "type": "function",
            "function": {"name": each.function.name, "arguments": each.function.arguments},
        }
        for each in message.tool_calls or ()
    ]
    history.append({"role": "assistant", "content": message.content, "tool_calls": calls})
    history.append({"role": "tool", "tool_call_id": calls[0]["id"], "content": "files"})
    return (
        client.chat.completions.create(model="m", messages=history, tools=tools).choices[0].message.content
        or ""
    )


def _messages(client: anthropic.Anthropic) -> str:
    tools: Any = [{"name": "bash", "input_schema": {"type": "object"}}]
    history: list[Any] = [{"role": "user", "content": "look"}]
    with client.messages.stream(model="m", max_tokens=100, messages=history, tools=tools) as stream:
        message = stream.get_final_message()
    use = next(block for block in message.content if block.type == "tool_use")
    text = next(block for block in message.content if block.type == "text")
    said = [
        {"type": "text", "text": text.text},
        {"type": "tool_use", "id": use.id, "name": use.name, "input": use.input},
    ]
    history.append({"role": "assistant", "content": said})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "files"}
    history.append({"role": "user", "content": [result]})
    answer = client.messages.create(model="m", max_tokens=100, messages=history, tools=tools)
    return "".join(block.text for block in answer.content if block.type == "text")


def _responses(client: openai.OpenAI) -> str:
    tools: Any = [{"type": "function", "name": "bash", "parameters": {"type": "object"}, "strict": False}]
    with client.responses.stream(model="m", input="look", tools=tools) as stream:
        response = stream.get_final_response()
    call = next(item for item in response.output if item.type == "function_call")
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "files"}]
    answer = client.responses.create(model="m", input=output, tools=tools, previous_response_id=response.id)
    return answer.output_text


def test_bodies_are_json_to_the_end() -> None:
    assert json.loads(ODD)["seed"] == 1.0
