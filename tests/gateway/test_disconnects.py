"""Clients that go away: the upstream's connection is closed at once, the record says so, nothing stays behind."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- looks into the gateway's own loop
import json
import socket
import threading
from typing import Any

import pytest

from luthien_guard.testing import Script, render
from tests.gateway.harness import (
    FORMATS,
    PATHS,
    POLICIES,
    Gateway,
    Wire,
    chunked,
    eventually,
    gateway,
    head,
    native,
    request,
)

both = pytest.mark.parametrize("policies", POLICIES)
FIRST = render(Script().text("one"), "openai.chat", stream=True).body.partition(b"\n\n")[0] + b"\n\n"


def hanging(said: bytes) -> Wire:
    """An upstream that says this and then nothing."""

    def act(connection: socket.socket, _: bytes) -> None:
        connection.sendall(said)
        wire.wait_for_close(connection)

    wire = Wire(act)
    return wire


def call(gate: Gateway, wire_format: str = "openai.chat", *, room: int | None = None) -> socket.socket:
    """A request that nobody waits for to the end. `room`: bytes that the kernel keeps for who does not read."""
    body = json.dumps(request(wire_format)).encode()
    lines = [
        f"POST {PATHS[wire_format]} HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        "anthropic-version: 2023-06-01",
        "authorization: Bearer k",
        f"content-length: {len(body)}",
    ]
    connection = socket.socket()
    connection.settimeout(60)
    if room is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    connection.connect(("127.0.0.1", gate.port))
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return connection


def until(connection: socket.socket, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        more = connection.recv(65536)
        assert more, data
        data += more
    return data


@both
@pytest.mark.parametrize("wire_format", FORMATS)
@pytest.mark.parametrize("when", ["before the head", "after the head", "within the stream", "within a body"])
def test_the_upstream_is_closed_when_the_client_leaves(wire_format: str, when: str, policies: str) -> None:
    frames = render(Script().text("one two three four").split(4), wire_format, stream=True).parts[:4]
    first = b"".join(frame for frame in frames if isinstance(frame, bytes))
    said = {
        "before the head": b"",
        "after the head": head(transfer_encoding="chunked"),
        "within the stream": head(transfer_encoding="chunked") + chunked(first),
        "within a body": head(200, "application/json", content_length="99") + b'{"id":',
    }[when]
    with hanging(said) as wire, gateway([native(wire.url)], POLICIES[policies]) as gate:
        connection = call(gate, wire_format)
        eventually(lambda: wire.connections)
        if when == "within the stream":
            until(connection, b"data:")
        connection.close()
        eventually(lambda: wire.closed)  # nobody else ends it: the upstream waits for ever
        call_id = eventually(lambda: gate.guard.recent_calls)[-1]
        assert gate.outcome_of(call_id) == "cancelled"


@both
def test_two_hundred_leave_nothing_behind(policies: str) -> None:
    said = head(transfer_encoding="chunked") + chunked(FIRST)
    with hanging(said) as wire, gateway([native(wire.url)], POLICIES[policies]) as gate:
        kept = call(gate)
        until(kept, b"data:")
        inside = Inside(gate)
        for at in range(200):
            connection = call(gate)
            if at % 4:
                until(connection, b"data:")
            if at % 2:  # a reset instead of an orderly end
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                )
            connection.close()
        eventually(lambda: wire.connections >= 200 and wire.closed >= wire.connections - 1, 60)
        # one more: the first, which stays, has begun to listen for its client since
        eventually(lambda: inside.tasks() <= inside.idle + 1, 60)
        eventually(lambda: inside.upstream_connections() <= 1, 60)  # of the first, which stays
        kept.close()
        outcomes = [gate.outcome_of(each) for each in gate.guard.recent_calls[1:]]
        assert set(outcomes) == {"cancelled"}


class Inside:
    """Looks into the gateway's own event loop."""

    def __init__(self, gate: Gateway) -> None:
        self._session = gate.app.state.upstreams.all[0]._session
        self._loop: asyncio.AbstractEventLoop = self._session._loop
        self.idle = self.tasks()

    def tasks(self) -> int:
        return self._run(lambda: len(asyncio.all_tasks(self._loop)))

    def upstream_connections(self) -> int:
        return self._run(lambda: len(self._session.connector._acquired))

    def _run(self, look: Any) -> int:
        found: list[int] = []
        done = threading.Event()

        def inside() -> None:
            found.append(look())
            done.set()

        self._loop.call_soon_threadsafe(inside)
        assert done.wait(10)
        return found[0]
