"""Requests that ask for another protocol: a body stays a body, whatever it looks like and however it is cut."""

from __future__ import annotations

import socket

import pytest

from luthien_guard import Guard
from luthien_guard.testing import Script, render
from tests.gateway.harness import Wire, head
from tests.gateway.test_slow_clients import HEALTH, connected, rest, served

BODY = b'{"model": "x", "messages": [{"role": "user", "content": "hi"}]}'
#: Where the body is taken for a request of its own, this is answered too.
HIDDEN = HEALTH + b"\r\n"
OFFERS = {
    "h2c": b"upgrade: h2c\r\nconnection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    "TLS": b"connection: keep-alive,UPGRADE\r\nupgrade: TLS/1.0\r\n",
    "two": b"connection: upgrade\r\nconnection: keep-alive\r\nupgrade: websocket\r\n",
}


def asked(offer: bytes, body: bytes) -> list[bytes]:
    """Head and body of a request."""
    line = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return [line + offer + b"content-length: %d\r\n\r\n" % len(body), body]


def answers(said: bytes) -> list[bytes]:
    """The status of each."""
    return [each[:3] for each in said.split(b"HTTP/1.1 ")[1:]]


def saying_hello() -> Wire:
    body = render(Script().text("hello"), "openai.chat", stream=False).body

    def act(connection: socket.socket, _: bytes) -> None:
        # who hangs up behind an answer says so: else the next request may come on this connection
        told = {"content_length": str(len(body)), "connection": "close"}
        connection.sendall(head(kind="application/json", **told) + body)

    return Wire(act)


@pytest.mark.parametrize("offer", ["h2c", "TLS"])
@pytest.mark.parametrize("cut", ["nowhere", "behind the head", "everywhere"])
def test_what_is_not_spoken_here_is_passed_over(offer: str, cut: str) -> None:
    parts = asked(OFFERS[offer], BODY)
    whole = b"".join(parts) * 2 + HEALTH + b"connection: close\r\n\r\n"
    pieces = {
        "nowhere": [whole],
        "behind the head": [*parts, *parts, HEALTH, b"connection: close\r\n\r\n"],
        "everywhere": [whole[at : at + 1] for at in range(len(whole))],
    }
    with saying_hello() as wire, served(Guard(), wire.url) as gate, connected(gate) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces[cut]:
            connection.sendall(piece)
        said = rest(connection)
        assert answers(said) == [b"200"] * 3
        assert said.count(b"hello") == 2


@pytest.mark.parametrize("offer", ["h2c", "TLS", "two"])
def test_a_body_that_looks_like_a_request_is_none(offer: str) -> None:
    with served(Guard(), "http://127.0.0.1:1") as gate, connected(gate) as connection:
        for piece in asked(OFFERS[offer], HIDDEN):
            connection.sendall(piece)
        connection.sendall(b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        said = answers(rest(connection))
        assert len(said) == 2 and b"200" not in said


@pytest.mark.parametrize("target", [b"/health", b"http://localhost/health", b"localhost:80"])
def test_no_tunnel_leads_through(target: bytes) -> None:
    with served(Guard(), "http://127.0.0.1:1") as gate, connected(gate) as connection:
        connection.sendall(b"CONNECT " + target + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert answers(rest(connection)) == [b"400"]


def test_websocket_is_answered_as_before() -> None:
    offer = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    key = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with served(Guard(), "http://127.0.0.1:1") as gate, connected(gate) as connection:
        connection.sendall(b"GET /v1/responses HTTP/1.1\r\nhost: localhost\r\n" + offer + key)
        assert answers(rest(connection)) == [b"426"]
