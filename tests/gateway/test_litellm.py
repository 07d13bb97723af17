"""Across wire formats, through litellm: a client of one API on a model of another."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from luthien_guard import Block, Guard, Policy, hookimpl
from luthien_guard.client.dialects import MESSAGES, RESPONSES, Dialect
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.gateway import create_app
from luthien_guard.gateway.auth import Anyone
from luthien_guard.gateway.authentication import Passthrough
from luthien_guard.gateway.upstreams.litellm_stream import LitellmStream
from luthien_guard.gateway.upstreams.types import Call, UpstreamError
from luthien_guard.testing import Script, render
from luthien_guard.testing.provider import FakeProvider, Played, serving
from tests.gateway.harness import (
    ENDS,
    FORMATS,
    POLICIES,
    Gateway,
    Wire,
    eventually,
    gateway,
    head,
    official_clients,
)
from tests.gateway.test_disconnects import call, hanging, until

SCRIPT = Script().text("Let me look at it.").tool_call("bash", {"command": "ls -la"}).split(6)
TOOLS: dict[str, Any] = {
    "openai.chat": [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}],
    "anthropic.messages": [{"name": "bash", "input_schema": {"type": "object"}}],
    "openai.responses": [{"type": "function", "name": "bash", "parameters": {"type": "object"}}],
}


class Quiet(Policy):
    """Blocks a call of one tool."""

    @hookimpl
    def on_tool_call_completed(self, call: Any) -> Any:
        return Block("no ls") if "ls -la" in call.arguments else None


class House:
    """One provider behind two litellm upstreams: `claude-*` as Anthropic's API, `gpt-*` as OpenAI's chat."""

    def __init__(self, url: str) -> None:
        self.upstreams = [
            UpstreamSettings(
                match="claude-*", litellm={}, model="anthropic/claude-sonnet-4-5", base_url=url, api_key="k"
            ),
            UpstreamSettings(
                match="gpt-*",
                litellm={"allowed_openai_params": ["seed"]},
                model="openai/gpt-4o",
                base_url=url + "/v1",
                api_key="k",
            ),
        ]


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider(SCRIPT)


@pytest.fixture
def gate(provider: FakeProvider) -> Iterator[Gateway]:
    with serving(provider) as url, gateway(House(url).upstreams) as found:
        yield found


@pytest.mark.parametrize("model", ["claude-x", "gpt-x"])
@pytest.mark.parametrize("wire_format", FORMATS)
@pytest.mark.parametrize("stream", [True, False])
def test_every_client_gets_text_and_calls_from_every_provider(
    gate: Gateway, provider: FakeProvider, wire_format: str, model: str, stream: bool
) -> None:
    if (wire_format, model) == ("anthropic.messages", "claude-x"):
        gate.headers["anthropic-version"] = "2023-06-01"
    answer = gate.model(wire_format, model=model, stream=stream, tools=TOOLS[wire_format])
    assert answer.status == 200, answer.body
    assert not provider.complaints
    text = answer.body.decode()
    assert "bash" in text
    assert not stream or ENDS[wire_format] in answer.body
    assert stream or "Let me look at it." in text
    assert gate.outcome(answer) == "success"


@pytest.mark.parametrize("wire_format", FORMATS)
def test_policies_see_converted_traffic_as_any_other(wire_format: str) -> None:
    model = "claude-x" if wire_format != "anthropic.messages" else "gpt-x"
    with serving(FakeProvider(SCRIPT)) as url, gateway(House(url).upstreams, [Quiet()]) as gate:
        answer = gate.model(wire_format, model=model, tools=TOOLS[wire_format])
        assert gate.outcome(answer) == "blocked"
    assert b"ls -la" not in answer.body
    assert ENDS[wire_format] in answer.body


def test_the_official_clients_read_converted_streams(gate: Gateway) -> None:
    hello: Any = [{"role": "user", "content": "hello"}]
    tools = TOOLS["anthropic.messages"]
    with official_clients(gate) as (chat, claude):
        with chat.chat.completions.stream(
            model="claude-x", messages=hello, tools=TOOLS["openai.chat"]
        ) as stream:
            choice = stream.get_final_completion().choices[0]
        with claude.messages.stream(model="gpt-x", max_tokens=9, messages=hello, tools=tools) as events:
            message = events.get_final_message()
        with chat.responses.stream(
            model="claude-x", input="hello", tools=TOOLS["openai.responses"]
        ) as answer:
            items = [item.type for item in answer.get_final_response().output]
    assert choice.message.content == "Let me look at it." and choice.finish_reason == "tool_calls"
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert message.stop_reason == "tool_use"
    assert "function_call" in items


def test_what_the_conversion_drops_is_said(gate: Gateway, provider: FakeProvider) -> None:
    chat = gate.model("openai.chat", model="claude-x", seed=7, logprobs=True, temperature=0.25)
    assert chat.headers["x-luthien-dropped"] == "logprobs, seed"
    cached = [{"type": "text", "text": "a long text", "cache_control": {"type": "ephemeral"}}]
    messages = gate.model(
        "anthropic.messages",
        model="gpt-x",
        top_k=5,
        messages=[{"role": "user", "content": cached}],
        stream=False,
    )
    assert messages.headers["x-luthien-dropped"] == "messages.cache_control, top_k"
    records = gate.guard.records_of(messages.headers["x-luthien-call-id"])
    assert [r.details["fields"] for r in records if r.details.get("event") == "upstream.dropped"] == [
        ["messages.cache_control", "top_k"]
    ]
    assert provider.requests[0].body["temperature"] == 0.25
    kept = gate.model("openai.chat", model="gpt-x", seed=7)
    assert "x-luthien-dropped" not in kept.headers
    assert provider.requests[-1].body["seed"] == 7


HOSTILE: dict[str, Any] = {
    "api_base": "http://127.0.0.1:9/",
    "base_url": "http://127.0.0.1:9/",
    "api_key": "sk-stolen",
    "custom_llm_provider": "ollama",
    "mock_response": "mocked",
    "fallbacks": [{"model": "ollama/x", "api_base": "http://127.0.0.1:9/"}],
    "extra_headers": {"x-evil": "1"},
    "extra_body": {"evil": 1},
    "headers": {"x-evil": "1"},
    "logger_fn": "x",
    "num_retries": 50,
    "timeout": 0.000001,
    "litellm_params": {"api_base": "http://127.0.0.1:9/"},
    "model_list": [],
    "drop_params": False,
}


@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_body_cannot_steer_litellm(gate: Gateway, provider: FakeProvider, wire_format: str) -> None:
    model = "gpt-x" if wire_format == "anthropic.messages" else "claude-x"
    answer = gate.model(wire_format, model=model, stream=False, **HOSTILE)
    assert answer.status == 200
    assert not HOSTILE.keys() - set(answer.headers["x-luthien-dropped"].split(", "))
    sent = provider.requests[-1]
    assert "evil" not in json.dumps(dict(sent.body)) + str(sent.headers)
    assert "mocked" not in answer.body.decode()


@pytest.mark.parametrize("model", ["huggingface/http://127.0.0.1:9/x", "ollama/https://x"])
def test_a_model_is_no_address(model: str) -> None:
    with gateway([UpstreamSettings(litellm={})]) as gate:
        assert gate.model("openai.chat", model=model).status == 400


def test_the_host_s_own_credentials_are_for_those_who_may() -> None:
    with gateway([UpstreamSettings(litellm={})], auth=Passthrough()) as gate:
        for model in (
            "bedrock/anthropic.claude-3-haiku-20240307-v1:0",
            "anthropic.claude-3-haiku-20240307-v1:0",
        ):
            answer = gate.model("openai.chat", model=model)
            assert (answer.status, answer.json["error"]["code"]) == (403, "credential_not_forwardable")
        gate.headers.clear()
        assert gate.model("openai.chat", model="groq/x").status == 401


def test_a_caller_s_own_credential_goes_to_the_provider(provider: FakeProvider) -> None:
    with serving(provider) as url:
        upstream = UpstreamSettings(litellm={}, model="anthropic/claude-x", base_url=url)
        with gateway([upstream], auth=Anyone()) as gate:
            gate.model("openai.chat", stream=False)
    assert provider.requests[0].headers["x-api-key"] == "sk-caller"


@pytest.mark.parametrize("wire_format", FORMATS)
def test_the_provider_s_refusals_keep_their_status(
    gate: Gateway, provider: FakeProvider, wire_format: str
) -> None:
    model = "gpt-x" if wire_format == "anthropic.messages" else "claude-x"
    body = json.dumps({"type": "error", "error": {"type": "t", "message": "the provider says no"}}).encode()
    for status in (400, 401, 403, 429, 500, 529):
        provider.answers = [Played([body], status, stream=False, headers={"retry-after": "7"})]
        answer = gate.model(wire_format, model=model)
        assert gate.outcome(answer) == "upstream_error"
        assert answer.status == status
        assert "the provider says no" in answer.json["error"]["message"]
        assert answer.headers["retry-after"] == "7"
        assert "litellm" not in answer.body.decode().lower() and "Traceback" not in answer.body.decode()


@pytest.mark.parametrize("before", [0, 1980, 1992])
def test_a_provider_s_refusal_repeats_no_key(before: int) -> None:
    key, shaped = "canary-0123456789-abcdef", "AIza" + "x1" * 17 + "y"
    body = json.dumps(
        {"error": {"message": f"{'x' * before} {shaped} {key} is no key", "type": "t"}}
    ).encode()
    refusing = FakeProvider(Played([body], 401, stream=False))
    with serving(refusing) as url:
        upstream = UpstreamSettings(litellm={}, model="anthropic/claude-x", base_url=url, api_key=key)
        with gateway([upstream], auth=Anyone()) as gate:
            answer = gate.model("openai.chat", stream=False)
            said = answer.body.decode() + str(gate.guard.records_of(answer.headers["x-luthien-call-id"]))
    assert answer.status == 401
    assert "[redacted]"[: 1999 - before] in said
    assert key[:8] not in said and shaped[:8] not in said


@pytest.mark.parametrize("policies", POLICIES)
def test_what_litellm_says_of_a_failure_within_a_stream_stays_here(policies: str) -> None:
    """Some of its streams have begun before anybody was asked; it ends them with its exception, whole."""
    key = "canary-0123456789-abcdef"
    body = json.dumps({"error": {"message": f"{key} is no key"}}).encode()
    page = head(401, "application/json", content_length=str(len(body)), connection="close") + body
    with Wire(lambda connection, _: connection.sendall(page)) as provider:
        upstream = UpstreamSettings(
            litellm={}, model="gemini/gemini-2.5-pro", base_url=provider.url, api_key=key
        )
        with gateway([upstream], POLICIES[policies], auth=Anyone()) as gate:
            answer = gate.model("anthropic.messages")
            assert gate.outcome(answer) == "upstream_error"
            said = answer.body.decode() + str(gate.guard.records_of(answer.headers["x-luthien-call-id"]))
    assert b"event: error" in answer.body and b"litellm" not in answer.body
    assert "is no key" in said and key not in said


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with gateway(House(url).upstreams) as gate:
        answer = gate.model("openai.chat", model="claude-x")
        assert gate.outcome(answer) == "upstream_error"
    assert answer.status in (500, 502, 503)
    assert "127.0.0.1" not in answer.body.decode()


@pytest.mark.parametrize("policies", POLICIES)
def test_a_stream_that_breaks_off_is_no_success(policies: str) -> None:
    cut = FakeProvider(Script().text("And then they all ").split(3).disconnect())
    with serving(cut) as url, gateway(House(url).upstreams, POLICIES[policies]) as gate:
        answer = gate.model("openai.chat", model="claude-x")
        assert gate.outcome(answer) == "upstream_error"
    assert answer.status >= 400 or b'"error"' in answer.body


@pytest.mark.parametrize("policies", POLICIES)
@pytest.mark.parametrize(("left", "outcome"), [(0.5, "upstream_error"), (1.0, "success")])
def test_a_call_that_ends_in_good_order_and_too_early_is_no_success(
    policies: str, left: float, outcome: str
) -> None:
    """litellm ends such a stream in upstream's name."""
    frames = render(SCRIPT, "openai.chat", stream=True).parts
    calls = [
        at for at, frame in enumerate(frames) if b'"tool_calls"' in frame and b'finish_reason":null' in frame
    ]
    cut = frames[: calls[0] + 1 + int((len(calls) - 1) * left)]
    provider = FakeProvider(Played(cut, stream=True))
    with serving(provider) as url, gateway(House(url).upstreams, POLICIES[policies]) as gate:
        answer = gate.model("openai.chat", model="gpt-4o-mini")
        assert gate.outcome(answer) == outcome
    assert (b'"error"' in answer.body) == (outcome != "success")
    assert (b'"finish_reason":"' in answer.body) == (outcome == "success")


@pytest.mark.parametrize("dialect", [MESSAGES, RESPONSES], ids=lambda each: each.function)
@pytest.mark.parametrize("cut", [False, True])
async def test_what_breaks_off_behind_its_last_event_lacks_nothing(dialect: Dialect, cut: bool) -> None:
    """litellm 1.109 has things of its own to do there, which need a package that it does not ask for."""
    said: list[str] = []
    frames = render(SCRIPT, dialect.wire_format, stream=True).parts[: -1 if cut else None]

    async def answer() -> AsyncIterator[Any]:
        for frame in frames:
            yield frame
        raise ModuleNotFoundError("No module named 'soundfile'", name="soundfile")

    asked = Call(dialect.wire_format, "POST", "/", b"", (), b"", record=lambda event, **_: said.append(event))
    stream = LitellmStream(dialect, answer(), asked)
    await stream.begin()
    assert [await stream.read() for _ in frames] == list(frames)
    if cut:
        with pytest.raises(UpstreamError, match="soundfile"):
            await stream.read()
        return
    assert await stream.read() == await stream.read() == b""
    assert said == ["upstream.broke_off"]


def test_a_client_that_leaves_closes_the_provider_s_connection() -> None:
    first = Script().text("one two three").split(4)
    from tests.gateway.harness import chunked, head

    frames = render(first, "anthropic.messages", stream=True).parts[:5]
    said = b"".join(frame for frame in frames if isinstance(frame, bytes))
    wire: Wire = hanging(head(transfer_encoding="chunked") + chunked(said))
    with (
        wire,
        gateway(
            [UpstreamSettings(litellm={}, model="anthropic/claude-x", base_url=wire.url, api_key="k")]
        ) as gate,
    ):
        connection = call(gate)
        until(connection, b"data:")
        connection.close()
        eventually(lambda: wire.closed)
        assert gate.outcome_of(eventually(lambda: gate.guard.recent_calls)[-1]) == "cancelled"


@pytest.mark.parametrize(
    "model", ["openai/gpt-4o", "anthropic/claude-x", "mistral/x", "groq/x", "gemini/gemini-x"]
)
@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer sk-own"}, {"X-Api-Key": "sk-own"}, {"api-key": "sk-own"}], ids=str
)
def test_a_key_in_a_header_is_what_every_provider_is_asked_with(model: str, headers: dict[str, str]) -> None:
    heard: list[bytes] = []

    def refuse(connection: socket.socket, asked: bytes) -> None:
        heard.append(asked)
        connection.sendall(head(400, "application/json", content_length="2", connection="close") + b"{}")

    with Wire(refuse) as wire:
        upstream = UpstreamSettings(
            litellm={"temperature": 0.5}, model=model, base_url=wire.url, headers=headers
        )
        with gateway([upstream], auth=Anyone()) as gate:
            gate.model("openai.chat", stream=False)
    (asked,) = heard
    assert b"in-headers" not in asked and b"sk-caller" not in asked
    wanted = {"anthropic/claude-x": b"x-api-key: sk-own", "gemini/gemini-x": b"x-goog-api-key: sk-own"}
    assert wanted.get(model, b"authorization: bearer sk-own") in asked.lower()


# -- what an entry may not say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"n": 2}, r"litellm\.n"),
        ({"n": True}, r"litellm\.n"),
        ({"extra_body": {"n": 3}}, r"litellm\.extra_body\.n"),
        ({"extra_body": {"stream": True}}, r"litellm\.extra_body\.stream"),
        ({"tools": []}, r"litellm\.tools"),
        ({"messages": []}, r"litellm\.messages"),
        ({"instructions": "x"}, r"litellm\.instructions"),
        ({"previous_response_id": "x"}, r"litellm\.previous_response_id"),
        ({"modalities": ["audio"]}, r"litellm\.modalities"),
        ({"background": True}, r"litellm\.background"),
    ],
    ids=str,
)
def test_what_policies_read_in_a_request_is_said_by_no_entry(given: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: .* in the request"):
        create_app(Guard(), [UpstreamSettings(litellm=given)])


@pytest.mark.parametrize(
    "allowed",
    [
        ["seed", "api_base"],
        ["base_url"],
        ["extra_body"],
        ["fallbacks"],
        ["aws_bedrock_runtime_endpoint"],
        "seed",
        [1],
    ],
    ids=str,
)
def test_no_client_is_allowed_to_say_where_its_request_goes(allowed: Any) -> None:
    settings = UpstreamSettings(name="wide", litellm={"allowed_openai_params": allowed})
    with pytest.raises(ConfigError, match=r"upstream wide: litellm\.allowed_openai_params: "):
        create_app(Guard(), [settings])


def test_a_list_of_allowed_fields_opens_none_that_policies_go_by(provider: FakeProvider) -> None:
    allowed = {"allowed_openai_params": ["tools", "instructions"]}
    with serving(provider) as url:
        upstream = UpstreamSettings(litellm=allowed, model="openai/gpt-4o", base_url=url + "/v1", api_key="k")
        with gateway([upstream]) as gate:
            answer = gate.model("openai.chat", instructions="x")
    assert answer.status == 200
    assert answer.headers["x-luthien-dropped"] == "instructions"
    assert "instructions" not in provider.requests[-1].body


@pytest.mark.parametrize(
    "given", [{"n": 1}, {"extra_body": {"n": 1, "top_k": 3}}, {"logprobs": True}], ids=str
)
def test_what_changes_nothing_of_what_was_asked_is_said_by_an_entry(given: dict[str, Any]) -> None:
    create_app(Guard(), [UpstreamSettings(litellm=given)])
