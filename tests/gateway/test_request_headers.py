"""What of a request's headers reaches an upstream, byte for byte."""

from __future__ import annotations

import json
import socket

import pytest

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.testing.provider import FakeProvider, serving
from tests.gateway.harness import Gateway, Wire, gateway, native, request

#: A proxy or a framework at the upstream may take another method, path, address or part for the one that was decided.
REWRITING = (
    *("x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"),
    *("x-original-host", "x-original-uri", "x-envoy-original-path", "x-host", "x-forwarded-host"),
    *("cf-connecting-ip", "true-client-ip", "x-client-ip", "x-cluster-client-ip", "range", "if-range"),
)


def test_no_header_rewrites_the_request_behind_the_gateway() -> None:
    provider = FakeProvider()
    with serving(provider) as url, gateway([native(url)]) as gate:
        gate.ask(
            "/v1/chat/completions", request("openai.chat"), headers=dict.fromkeys((*REWRITING, "x-mine"), "v")
        )
    (seen,) = provider.requests
    assert seen.headers["x-mine"] == "v"
    assert not seen.headers.keys() & set(REWRITING)


class Heads:
    """An upstream that keeps the bytes of every request's head."""

    def __init__(self) -> None:
        self.all: list[bytes] = []

    def __call__(self, connection: socket.socket, data: bytes) -> None:
        self.all.append(data.partition(b"\r\n\r\n")[0])
        connection.sendall(
            b"HTTP/1.1 400 No\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        )


def sent(gate: Gateway, name: bytes, value: bytes) -> bytes:
    """The gateway's answer to a request with this header as it is."""
    body = json.dumps(request("openai.chat", model="openai/m", stream=False)).encode()
    lines = [b"POST /v1/chat/completions HTTP/1.1", b"host: 127.0.0.1", b"content-type: application/json"]
    lines += [b"content-length: %d" % len(body), b"connection: close", name + b": " + value]
    with socket.create_connection(("127.0.0.1", gate.port), timeout=60) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("name", [b"x-title", b"x-api-key"])
def test_what_is_utf_8_arrives_as_it_was_sent(name: bytes) -> None:
    heads = Heads()
    with Wire(heads) as wire, gateway([native(wire.url)]) as gate:
        sent(gate, name, "Café".encode())
    assert name + b": Caf\xc3\xa9" in heads.all[0].split(b"\r\n")


@pytest.mark.parametrize("name", [b"x-title", b"x-api-key"])
def test_what_cannot_be_sent_on_as_it_is_is_refused(name: bytes) -> None:
    heads = Heads()
    with Wire(heads) as wire, gateway([native(wire.url)]) as gate:
        answer = sent(gate, name, b"Caf\xe9")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_header" in answer
    assert not heads.all


def test_a_credential_that_litellm_cannot_send_is_refused() -> None:
    heads = Heads()
    with (
        Wire(heads) as wire,
        gateway([UpstreamSettings(litellm={"timeout": 5}, base_url=wire.url + "/v1")]) as gate,
    ):
        answer = sent(gate, b"authorization", "Bearer Ké".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_header" in answer
    assert not heads.all
