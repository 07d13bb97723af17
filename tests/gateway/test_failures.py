"""What an upstream can do wrong: the right status before the first byte, an in-band error after it, never a success."""

from __future__ import annotations

import gzip
import json
import socket
from typing import Any

import anthropic
import openai
import pytest

from luthien_guard import Limits
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.testing import Script, render
from luthien_guard.testing.provider import FakeProvider, Played
from tests.gateway.harness import (
    FORMATS,
    POLICIES,
    Wire,
    chunked,
    gateway,
    gateway_to,
    head,
    native,
    official_clients,
)

ERRORS = {
    "openai.chat": b'data: {"error"',
    "anthropic.messages": b"event: error",
    "openai.responses": b"response.failed",
}
both = pytest.mark.parametrize("policies", POLICIES)
each_format = pytest.mark.parametrize("wire_format", FORMATS)


def story(wire_format: str, length: int = 60) -> bytes:
    text = " ".join(f"word{number}" for number in range(length))
    return render(Script().text(text).split(20), wire_format, stream=True).body


def is_error(wire_format: str, body: bytes) -> bool:
    """As a client of the format takes it: the last event that says anything is an error."""
    return ERRORS[wire_format] in body


@both
@each_format
def test_the_upstream_s_refusals_come_through(wire_format: str, policies: str) -> None:
    body = json.dumps({"type": "error", "error": {"type": "some_error", "message": "no"}}).encode()
    provider = FakeProvider()
    with gateway_to(provider, POLICIES[policies]) as gate:
        for status in (400, 401, 403, 429, 500, 529):
            told = {"retry-after": "7", "x-request-id": "r1"}
            provider.answers = [Played([body], status, stream=False, headers=told)]
            answer = gate.model(wire_format)
            assert gate.outcome(answer) == "upstream_error"
            assert (answer.status, answer.body) == (status, body)
            assert answer.headers["retry-after"] == "7" and answer.headers["x-request-id"] == "r1"


@both
@each_format
def test_a_refusal_that_is_no_json_keeps_its_status_and_gets_the_format_s_shape(
    wire_format: str, policies: str
) -> None:
    page = Played([b"<html>proxy</html>"], 503, stream=False, headers={"content-type": "text/html"})
    with gateway_to(FakeProvider(page), POLICIES[policies]) as gate:
        answer = gate.model(wire_format)
    assert answer.status == 503
    assert "error" in answer.json and b"proxy" not in answer.body


@each_format
def test_nobody_listens(wire_format: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with gateway([native(url)]) as gate:
        answer = gate.model(wire_format)
        assert (answer.status, gate.outcome(answer)) == (502, "upstream_error")
    assert "127.0.0.1" not in answer.body.decode()
    assert "error" in answer.json


NO_ANSWERS = (
    b"",
    b"\x00\x01garbage that is no HTTP\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    head(200, "application/json", content_length="1000") + b'{"id":',
    head(200, "application/json", content_length="11") + b"not json at",
    head(200, "application/json", content_length="0"),
    head(200, content_length="0"),
    head(200, content_encoding="gzip", content_length="5") + b"nogzi",
    head(200, content_encoding="x-unknown", transfer_encoding="chunked") + chunked(b"data: 1\n\n"),
    head(307, "text/plain", location="http://127.0.0.1:1/", content_length="0"),
    head(307, "application/json", location="http://127.0.0.1:1/", content_length="2") + b"{}",
    head(204, "text/plain"),
    *(head(status, "application/json", content_length="2") + b"{}" for status in (99, 199, 205, 600, 999)),
    *(head(status, content_length="16") + b"data: [DONE]\n\n\n\n" for status in (205, 600, 999)),
)


@both
def test_what_is_no_answer_is_a_502(policies: str) -> None:
    place = {"said": b""}
    wire = Wire(lambda connection, _: connection.sendall(place["said"]))
    with wire, gateway([native(wire.url)], POLICIES[policies]) as gate:
        for place["said"] in NO_ANSWERS:
            for stream in (True, False):
                answer = gate.model("openai.chat", stream=stream)
                assert answer.status == 502, (place, answer)
                assert answer.json["error"]["message"]
                assert gate.outcome(answer) == "upstream_error"


@both
def test_an_answer_that_is_compressed_unasked_is_read(policies: str) -> None:
    body = story("openai.chat")
    packed = gzip.compress(body)
    said = head(200, content_encoding="gzip", content_length=str(len(packed))) + packed
    wire = Wire(lambda connection, _: connection.sendall(said))
    with wire, gateway([native(wire.url)], POLICIES[policies]) as gate:
        answer = gate.model("openai.chat")
    assert answer.body == body
    assert "content-encoding" not in answer.headers


@both
@each_format
def test_an_end_without_framing_counts_only_after_the_last_event(wire_format: str, policies: str) -> None:
    """HTTP/1.0 style: the connection's end is the body's, and a cut looks the same."""
    body = story(wire_format, 5)
    said = {"body": body}
    wire = Wire(lambda connection, _: connection.sendall(head(connection="close") + said["body"]))
    with wire, gateway([native(wire.url)], POLICIES[policies]) as gate:
        whole = gate.model(wire_format)
        assert (whole.body, gate.outcome(whole)) == (body, "success")
        said["body"] = body[: body.index(b"word4")]
        cut = gate.model(wire_format)
        assert is_error(wire_format, cut.body)
        assert gate.outcome(cut) == "upstream_error"


@both
@pytest.mark.parametrize("when", ["before the head", "after the head", "within the stream", "within a body"])
def test_silence_is_ended(when: str, policies: str) -> None:
    said = {
        "before the head": b"",
        "after the head": head(transfer_encoding="chunked"),
        "within the stream": head(transfer_encoding="chunked") + chunked(story("openai.chat")[:400]),
        "within a body": head(200, "application/json", content_length="99") + b'{"id":',
    }[when]

    def act(connection: socket.socket, _: bytes) -> None:
        connection.sendall(said)
        wire.wait_for_close(connection)

    total = (
        60.0 if when == "within the stream" else 0.6
    )  # a slow machine must not take it before the stream begins
    limits = Limits(idle_timeout=1.0, total_timeout=total)
    with Wire(act) as wire, gateway([native(wire.url)], POLICIES[policies], limits=limits) as gate:
        answer = gate.model("openai.chat")
        assert gate.outcome(answer) in ("upstream_error", "timeout")
    if when == "within the stream":
        assert is_error("openai.chat", answer.body)
    else:
        assert answer.status == 504
        assert answer.json["error"]["code"] in ("idle_timeout", "total_timeout", "upstream_timeout")


@both
def test_silence_within_a_stream_is_ended_long_before_the_exchange_has_to(policies: str) -> None:
    def act(connection: socket.socket, _: bytes) -> None:
        wire.stop.wait(0.2)  # thinks first
        connection.sendall(head(transfer_encoding="chunked") + chunked(story("openai.chat")[:800]))
        wire.wait_for_close(connection)

    with (
        Wire(act) as wire,
        gateway([native(wire.url)], POLICIES[policies], limits=Limits(idle_timeout=1.0)) as gate,
    ):
        answer = gate.model("openai.chat")
        assert gate.outcome(answer) in ("upstream_error", "timeout")
    assert is_error("openai.chat", answer.body)


def test_an_answer_past_the_limit_is_refused() -> None:
    provider = FakeProvider(Played([b'{"a":"' + b"x" * 5000 + b'"}'], stream=False))
    with gateway_to(provider, limits=Limits(max_response_bytes=1000)) as gate:
        answer = gate.model("openai.chat", stream=False)
    assert (answer.status, answer.json["error"]["code"]) == (502, "response_too_large")


def test_a_model_that_nobody_serves_is_a_404_in_the_client_s_words() -> None:
    with gateway(
        [UpstreamSettings(match="a-*", native="openai.chat", base_url="http://127.0.0.1:1/v1")]
    ) as gate:
        for wire_format in FORMATS:
            answer = gate.model(wire_format, model="b")
            assert answer.status == 404
            assert "error" in answer.json


def test_the_error_of_a_stream_reads_as_one_to_the_official_clients() -> None:
    cut = Script().text("And then ").disconnect()
    hello: Any = [{"role": "user", "content": "hello"}]
    with gateway_to(FakeProvider(cut)) as gate, official_clients(gate) as (chat, claude):
        with pytest.raises(openai.APIError):
            list(chat.chat.completions.create(model="m", messages=hello, stream=True))
        with pytest.raises(anthropic.APIError):
            list(claude.messages.create(model="m", messages=hello, max_tokens=9, stream=True))
        events = list(chat.responses.create(model="m", input="hello", stream=True))
        assert events[-1].type == "response.failed"
