"""A server in a process of its own, on a port of its own, and a client that is only a socket."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

APP = "tests.servers.app:app"
SERVERS: dict[str, list[str]] = {
    "uvicorn-h11": ["uvicorn", APP, "--http", "h11", "--loop", "asyncio", "--port", "{port}"],
    "uvicorn-httptools": ["uvicorn", APP, "--http", "httptools", "--loop", "uvloop", "--port", "{port}"],
    "hypercorn-asyncio": ["hypercorn", APP, "--worker-class", "asyncio", "--bind", "127.0.0.1:{port}"],
    "hypercorn-trio": ["hypercorn", APP, "--worker-class", "trio", "--bind", "127.0.0.1:{port}"],
    "granian": ["granian", APP, "--interface", "asgi", "--port", "{port}"],
    "daphne": ["daphne", APP, "--bind", "127.0.0.1", "--port", "{port}"],
}
ROOT = Path(__file__).parents[2]


@dataclass
class Reply:
    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def guarded(self) -> bool:
        return b"x-luthien-call-id:" in self.head.lower()


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]

    def connect(self) -> Connection:
        return Connection(socket.create_connection(("127.0.0.1", self.port), timeout=20))

    def ask(self, path: bytes, body: bytes = b"", *, method: bytes = b"POST", headers: bytes = b"") -> Reply:
        with self.connect() as connection:
            connection.send(path, body, method=method, headers=headers)
            return connection.reply()

    def model(self, mode: str) -> Reply:
        return self.ask(b"/v1/chat/completions", request(mode))

    def facts(self) -> dict[str, int]:
        return json.loads(self.ask(b"/facts", method=b"GET").body)

    def eventually(self, fact: str, at_least: int) -> bool:
        """Ask until the fact is there; at most about ten seconds."""
        for _ in range(200):
            if self.facts().get(fact, 0) >= at_least:
                return True
            self.pause()
        return False

    def pause(self) -> None:
        """A moment, or the server's end."""
        try:
            self.process.wait(0.05)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"the server ended: {self.process.returncode}")


class Connection:
    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def send(
        self, path: bytes, body: bytes, *, method: bytes = b"POST", headers: bytes = b"", close: bool = True
    ) -> None:
        self._raw.sendall(
            method + b" " + path + b" HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n" + headers
            + (b"content-length: %d\r\n" % len(body) if (body or method != b"GET") and b"chunked" not in headers else b"")
            + (b"connection: close\r\n" if close else b"") + b"\r\n" + body
        )  # fmt: skip

    def until(self, mark: bytes) -> bytes:
        """Everything up to the mark, which stays unread beyond it."""
        while mark not in self._buffer:
            more = self._raw.recv(65536)
            if not more:
                raise AssertionError(f"the connection ended before {mark!r}: {self._buffer!r}")
            self._buffer += more
        at = self._buffer.index(mark) + len(mark)
        found, self._buffer = self._buffer[:at], self._buffer[at:]
        return found

    def rest(self) -> bytes:
        while more := self._raw.recv(65536):
            self._buffer += more
        return self._buffer

    def reply(self) -> Reply:
        """A reply after which the server closes."""
        head = self.until(b"\r\n\r\n")
        body = self.rest()
        return Reply(head, _unchunked(body) if b"transfer-encoding: chunked" in head.lower() else body)

    def sized_reply(self) -> Reply:
        """A reply with a content-length, on a connection that stays open."""
        head = self.until(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = int(lengths[0].split(b":")[1])
        while len(self._buffer) < size:
            self._buffer += self._raw.recv(65536)
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return Reply(head, body)


def _unchunked(raw: bytes) -> bytes:
    parts = []
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        parts.append(raw[:length])
        raw = raw[length + 2 :]
        if length == 0:
            return b"".join(parts)
    raise AssertionError("the chunked body has no end")


def request(mode: str) -> bytes:
    return json.dumps(
        {"model": mode, "messages": [{"role": "user", "content": "hello"}], "stream": True}
    ).encode()


@contextmanager
def running(name: str, log: Path) -> Iterator[Server]:
    port = _free_port()
    command = [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[name])]
    with log.open("wb") as output:
        process: subprocess.Popen[Any] = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    server = Server(port, process)
    try:
        _await(server, log)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _await(server: Server, log: Path) -> None:
    for _ in range(600):
        try:
            server.connect().__exit__()
        except OSError:
            try:
                server.pause()
            except AssertionError:
                raise AssertionError(log.read_text()) from None
        else:
            return
    raise AssertionError(f"the server does not listen: {log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
