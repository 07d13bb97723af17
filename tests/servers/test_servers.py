"""The middleware on real servers, over real sockets."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from tests.servers.running import SERVERS, Server, request, running

CHAT = b"/v1/chat/completions"


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / f"{request.param}.log"
    with running(request.param, log) as found:
        yield found


def test_a_stream_arrives_as_it_is_said(server: Server) -> None:
    with server.connect() as connection:
        connection.send(CHAT, request("gated"))
        head = connection.until(b"first")
        assert b" 200 " in head.split(b"\r\n")[0] + b" "
        assert b"x-luthien-call-id" in head.lower()
        assert server.ask(b"/go").status == 200  # only now does the second event exist
        assert b"second" in connection.rest()


def test_a_body_has_its_length(server: Server) -> None:
    reply = server.model("body")
    assert reply.status == 200
    assert b'"fine"' in reply.body
    assert b"content-length: %d\r\n" % len(reply.body) in reply.head.lower()


def test_two_requests_on_one_connection(server: Server) -> None:
    with server.connect() as connection:
        for _ in range(3):
            connection.send(CHAT, request("body"), close=False)
            reply = connection.sized_reply()
            assert reply.status == 200
            assert b'"fine"' in reply.body


def test_blocked_text_does_not_leave(server: Server) -> None:
    reply = server.model("leak")
    assert reply.status == 200
    assert b"fine so far" in reply.body
    assert b"SECRET" not in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")


def test_nor_does_it_leave_compressed(server: Server) -> None:
    reply = server.ask(CHAT, request("packed"), headers=b"accept-encoding: gzip\r\n")
    assert b"content-encoding" not in reply.head.lower()
    assert b"SECRET" not in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "path",
    [b"/v1/chat/completions%0A", b"/v1/chat/completions/", b"//v1/chat/completions", b"/v1/%63hat/completions",
     b"/v1/chat%2Fcompletions", b"/v1/chat%252Fcompletions", b"/v1/chat/completions;x", b"/v1/chat/completions%00",
     b"http://evil/v1/chat/completions%0A", b"/V1/Chat/Completions", b"/v1/chat/./completions"],
)  # fmt: skip
def test_no_spelling_of_the_path_gets_past(server: Server, path: bytes) -> None:
    before = server.facts().get("model called", 0)
    assert server.ask(path, request("leak")).status == 400
    assert server.facts().get("model called", 0) == before


@pytest.mark.parametrize("method", [b"post", b"Post", b"pOST"])
def test_nor_does_a_spelling_of_the_method(server: Server, method: bytes) -> None:
    """Servers that make it upper case serve it, guarded; the others have it refused."""
    reply = server.ask(CHAT, request("leak"), method=method)
    assert reply.status == 400 or reply.guarded
    assert b"SECRET" not in reply.body


def test_absolute_form_is_guarded_or_refused(server: Server) -> None:
    reply = server.ask(b"http://localhost" + CHAT, request("leak"))
    assert reply.status == 400 or reply.guarded
    assert b"SECRET" not in reply.body


def test_a_client_that_leaves_ends_the_upstream(server: Server) -> None:
    before = server.facts().get("cancelled", 0)
    with server.connect() as connection:
        connection.send(CHAT, request("hang"))
        connection.until(b"first")
    assert server.eventually("cancelled", before + 1)


@pytest.mark.parametrize("mode", ["short", "raises"])
def test_an_application_that_breaks_off_leaves_no_client_waiting(server: Server, mode: str) -> None:
    reply = server.model(mode)  # would time out, or lack the end of its chunks
    assert reply.status == 200
    assert b"upstream_error" in reply.body


def test_a_websocket_is_turned_away(server: Server) -> None:
    key = base64.b64encode(b"0123456789abcdef")
    headers = b"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: " + key + b"\r\n"
    with server.connect() as connection:
        connection.send(
            b"/v1/responses", b"", method=b"GET", headers=headers + b"connection: Upgrade\r\n", close=False
        )
        status = connection.until(b"\r\n").split(b" ")[1]
    assert status in (b"403", b"426")
    assert server.facts().get("websocket", 0) == 0


def test_smuggled_trailers_are_not_headers(server: Server) -> None:
    """R12: a server that merges trailers must not change what the guard has seen; most refuse or drop them."""
    body = request("body")
    with server.connect() as connection:
        connection.send(
            CHAT,
            b"%x\r\n%s\r\n0\r\nauthorization: Bearer smuggled\r\n\r\n" % (len(body), body),
            headers=b"transfer-encoding: chunked\r\n",
        )
        reply = connection.reply()
    assert reply.status in (200, 400)
