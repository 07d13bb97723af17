"""An upstream that points elsewhere: nobody goes there, with the deployer's credential or without."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway.upstreams.staying import staying
from tests.gateway.harness import FORMATS, POLICIES, Wire, gateway, head

#: Providers that litellm asks in ways of its own, by SDK and by plain HTTP. Arguments of litellm's: always by litellm.
_MODELS = (
    "openai/gpt-4o",
    "azure/gpt-4o",
    "anthropic/claude-sonnet-4-5",
    "mistral/m",
    "gemini/gemini-2.5-pro",
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wire_format", FORMATS)
@pytest.mark.parametrize("model", _MODELS)
def test_no_redirect_is_followed_whoever_asks(model: str, wire_format: str, stream: bool) -> None:
    def answers(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head(200, "application/json", content_length="2", connection="close") + b"{}")

    def points(connection: socket.socket, request: bytes) -> None:
        path = urlsplit(request.split(b" ", 2)[1].decode()).path
        location = elsewhere.url.replace("127.0.0.1", "localhost") + path
        connection.sendall(head(307, "text/plain", location=location, content_length="0", connection="close"))

    with Wire(answers) as elsewhere, Wire(points) as upstream:
        settings = UpstreamSettings(
            litellm={"timeout": 20}, base_url=upstream.url, api_key="sk-canary-0123456789"
        )
        with gateway([settings], POLICIES["watched"]) as gate:
            answer = gate.model(wire_format, model=model, stream=stream)
            assert gate.outcome(answer) == "upstream_error"
        assert (upstream.connections, elsewhere.connections) == (1, 0)
        # some of litellm's streams begin before anybody was asked
        assert answer.status == 502 or b"event: error" in answer.body


def test_who_else_sends_through_httpx_is_left_alone() -> None:
    with staying():
        pass
    moved = httpx.Response(307, headers={"location": "http://localhost/there"})
    there = httpx.MockTransport(lambda asked: httpx.Response(200) if asked.url.path == "/there" else moved)
    with httpx.Client(transport=there, follow_redirects=True) as client:
        assert client.get("http://localhost/").status_code == 200
        with staying():
            assert client.get("http://localhost/").status_code == 307
