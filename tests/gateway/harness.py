"""A gateway on a loopback socket in front of an upstream on another, and what the tests ask of both."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from luthien_guard import Guard, Policy, hookimpl
from luthien_guard.config.settings import ServerSettings, UpstreamSettings
from luthien_guard.gateway import create_app
from luthien_guard.records import EventType
from luthien_guard.testing.provider import serving
from tests.rig.waiting import eventually

FORMATS = ("openai.chat", "anthropic.messages", "openai.responses")
PATHS = {
    "openai.chat": "/v1/chat/completions",
    "anthropic.messages": "/v1/messages",
    "openai.responses": "/v1/responses",
}
ENDS = {
    "openai.chat": b"[DONE]",
    "anthropic.messages": b"message_stop",
    "openai.responses": b"response.completed",
}


class Watch(Policy):
    """Looks at every answer and changes nothing: the guard reads every byte."""

    @hookimpl
    def on_content_chunk(self, chunk: Any) -> None:
        return None


#: With no policy the middleware lets bytes straight through; with one it decodes them.
POLICIES: dict[str, list[Any]] = {"unwatched": [], "watched": [Watch()]}


def request(
    wire_format: str, *, model: str = "scripted-model", stream: bool = True, **more: Any
) -> dict[str, Any]:
    prompt = "input" if wire_format == "openai.responses" else "messages"
    body = {"model": model, "stream": stream, prompt: [{"role": "user", "content": "hello"}], **more}
    return {"max_tokens": 100, **body} if wire_format == "anthropic.messages" else body


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    lines: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def all(self, name: str) -> list[str]:
        """The values of every header line of that name."""
        return [value for key, value in self.lines if key.lower() == name]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gateway:
    url: str
    guard: Guard
    app: Any
    headers: dict[str, str] = field(default_factory=lambda: {"authorization": "Bearer sk-caller"})

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(
        self, path: str, body: Any = None, *, method: str = "POST", headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if data is not None else {}
        version = {"anthropic-version": "2023-06-01"} if "/messages" in path else {}
        try:
            connection.request(method, path, data, {**kind, **version, **self.headers, **(headers or {})})
            response = connection.getresponse()
            lines = response.getheaders()
            return Answer(response.status, {k.lower(): v for k, v in lines}, response.read(), lines)
        finally:
            connection.close()

    def model(self, wire_format: str, **more: Any) -> Answer:
        return self.ask(PATHS[wire_format], request(wire_format, **more))

    def outcome(self, answer: Answer) -> str:
        """How the exchange of this answer ended, in its record."""
        return self.outcome_of(answer.headers["x-luthien-call-id"])

    def outcome_of(self, call_id: str) -> str:
        closed = list(eventually(lambda: self._closed(call_id)))
        return closed[0].details["outcome"]

    def _closed(self, call_id: str) -> list[Any]:
        return [each for each in self.guard.records_of(call_id) if each.type is EventType.CLOSED]


@contextmanager
def gateway(
    upstreams: Sequence[UpstreamSettings],
    policies: Sequence[Any] = (),
    *,
    server: ServerSettings | None = None,
    auth: Any = None,
    **guard: Any,
) -> Iterator[Gateway]:
    made = Guard(list(policies), **guard)
    app = create_app(made, upstreams, auth=auth, server=server)
    with serving(app, lifespan=True) as url:
        yield Gateway(url, made, app)


def native(url: str, **more: Any) -> UpstreamSettings:
    return UpstreamSettings(native=list(FORMATS), base_url=url, **more)


@contextmanager
def gateway_to(upstream: Any, policies: Sequence[Any] = (), **more: Any) -> Iterator[Gateway]:
    """A gateway with one native upstream: an ASGI application, served too."""
    with serving(upstream) as url, gateway([native(url)], policies, **more) as found:
        yield found


class Wire:
    """An upstream that is a socket: what `act` does with each connection is all that happens there."""

    def __init__(self, act: Callable[[socket.socket, bytes], None]) -> None:
        self._act = act
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self.closed = 0
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        # close() alone does not wake accept()
        with socket.create_connection(self._listener.getsockname()):
            pass
        self._thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        while not self.stop.is_set():
            connection, _ = self._listener.accept()
            if self.stop.is_set():
                connection.close()
                return
            self.connections += 1
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._act(connection, read_request(connection))
            except OSError:
                pass
        self.closed += 1

    def wait_for_close(self, connection: socket.socket) -> None:
        """Until the peer hangs up, or the test is over."""
        connection.settimeout(0.05)
        while not self.stop.is_set():
            try:
                if not connection.recv(65536):
                    return
            except TimeoutError:
                continue


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise OSError("no request")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    ]
    while lengths and len(body) < int(lengths[0]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def head(status: int = 200, kind: str = "text/event-stream", **headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"content-type: {kind}",
        *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@contextmanager
def official_clients(gate: Gateway) -> Iterator[tuple[Any, Any]]:
    """OpenAI's and Anthropic's, which ask once."""
    import anthropic
    import openai

    with (
        openai.OpenAI(base_url=gate.url + "/v1", api_key="k", max_retries=0) as chat,
        anthropic.Anthropic(base_url=gate.url, api_key="k", max_retries=0) as claude,
    ):
        yield chat, claude
