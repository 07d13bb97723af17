"""Clients that ask and then do not read: no upstream is kept waiting for them, and no connection for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn

from luthien_guard import Guard, Limits
from luthien_guard.cli.http_protocol import Protocol
from luthien_guard.config.settings import ServerSettings
from luthien_guard.gateway import create_app
from luthien_guard.testing import Script, render
from tests.gateway.harness import (
    POLICIES,
    Gateway,
    Wire,
    chunked,
    eventually,
    gateway,
    head,
    native,
)
from tests.gateway.test_disconnects import FIRST, call, until


def flooding() -> Wire:
    """An upstream that has more to say than all buffers on the way hold."""

    def act(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head(transfer_encoding="chunked"))
        piece = chunked(FIRST) * 200
        while not wire.stop.is_set():
            connection.sendall(piece)

    wire = Wire(act)
    return wire


@contextmanager
def served(guard: Guard, url: str, *, patience: float = 30.0, arrival: float = 30.0) -> Generator[Gateway]:
    """As `luthien-guard serve` does it. `patience`: seconds for who reads nothing; `arrival`: for a request's head."""
    app = create_app(guard, [native(url)])
    listener = socket.create_server(("127.0.0.1", 0))
    protocol: Any = partial(Protocol, patience=patience, arrival=arrival)
    server = uvicorn.Server(uvicorn.Config(app, http=protocol, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield Gateway(f"http://127.0.0.1:{listener.getsockname()[1]}", guard, app)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@pytest.mark.parametrize("policies", POLICIES)
def test_whatever_the_server_does_the_upstream_is_let_go_after_all(policies: str) -> None:
    limits = Limits(total_timeout=0.5)
    with flooding() as wire, gateway([native(wire.url)], POLICIES[policies], limits=limits) as gate:
        connection = call(gate, room=4096)
        eventually(lambda: wire.closed)
        connection.close()


@pytest.mark.parametrize("policies", POLICIES)
def test_serve_hangs_up_on_them_and_says_cancelled(policies: str) -> None:
    guard = Guard(POLICIES[policies])
    with flooding() as wire, served(guard, wire.url, patience=0.1) as gate:
        connection = call(gate, room=4096)
        eventually(lambda: wire.closed)
        (call_id,) = guard.recent_calls
        assert gate.outcome_of(call_id) == "cancelled"
        with pytest.raises(ConnectionError):
            while connection.recv(1 << 16):
                pass
            raise ConnectionError  # an end instead of a reset: the kernel had room for all
        connection.close()


def test_serve_waits_for_who_reads_slowly() -> None:
    text = "word " * 40_000
    body = render(Script().text(text).split(2_000), "openai.chat", stream=True).body
    guard = Guard()

    def act(connection: socket.socket, _: bytes) -> None:
        connection.sendall(head(content_length=str(len(body))) + body)

    with Wire(act) as wire, served(guard, wire.url) as gate:
        connection = call(gate, room=4096)
        data = b""
        while b"[DONE]" not in data[-64:]:
            part = connection.recv(16384)
            assert part, len(data)
            data += part
        (call_id,) = guard.recent_calls
        assert gate.outcome_of(call_id) == "success"
        connection.close()


@pytest.mark.parametrize("path", ["chat/completions", "embeddings", "responses/resp_1/cancel"])
def test_a_body_that_does_not_arrive_is_waited_for_on_no_path_for_ever(path: str) -> None:
    passing, limits = ServerSettings(unknown_paths="pass"), Limits(request_timeout=0.1)
    asked = f"POST /v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n"
    with (
        gateway([native("http://127.0.0.1:1")], server=passing, limits=limits) as gate,
        connected(gate) as connection,
    ):
        connection.sendall(asked.encode() + b"connection: close\r\n\r\n{")
        said = rest(connection)
        assert said.startswith(b"HTTP/1.1 408")
        assert b"request_timeout" in said


HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n"


def connected(gate: Gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gate.port), timeout=60)


def rest(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up, be it with a reset."""
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except ConnectionError:
        pass
    return data


@pytest.mark.parametrize("said", [b"", b"GET /hea", HEALTH, b"\r\n"], ids=str)
def test_serve_does_not_wait_for_ever_for_a_head(said: bytes) -> None:
    with served(Guard(), "http://127.0.0.1:1", arrival=0.1) as gate, connected(gate) as connection:
        connection.sendall(said)
        assert rest(connection) == b""


def test_serve_does_not_wait_for_ever_for_the_next_head() -> None:
    with served(Guard(), "http://127.0.0.1:1", arrival=0.1) as gate, connected(gate) as connection:
        connection.sendall(HEALTH + b"\r\n")
        until(connection, b'"reasons"')
        connection.sendall(b"GET /hea")
        assert b"HTTP/1.1" not in rest(connection)


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        (HEALTH, b"x-a: b\r\n" * 1000),
        (HEALTH + b"x-a: ", b"b" * 10_000),
        (b"GET /", b"a" * 10_000),
        (HEALTH + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x-a: b\r\n" * 1000),
    ],
    ids=["headers", "a header", "a path", "trailers"],
)
def test_serve_hears_no_head_without_end(begins: bytes, goes_on: bytes) -> None:
    with (
        served(Guard(), "http://127.0.0.1:1") as gate,
        connected(gate) as connection,
        pytest.raises(ConnectionError),
    ):
        connection.sendall(begins)
        for _ in range(10_000):
            connection.sendall(goes_on)


def test_serve_takes_a_long_body_in_the_smallest_chunks() -> None:
    body = b'{"model": "x", "messages": []}' + b" " * 40_000
    asked = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n"
    with served(Guard(), "http://127.0.0.1:1") as gate, connected(gate) as connection:
        connection.sendall(asked + b"content-type: application/json\r\nconnection: close\r\n\r\n")
        connection.sendall(b"".join(chunked(body[at : at + 1]) for at in range(len(body))) + b"0\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 502")
