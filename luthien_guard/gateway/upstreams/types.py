"""What the relay asks of an upstream, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from luthien_guard.errors import LuthienError

__all__ = [
    "Call",
    "HeaderList",
    "Injector",
    "Recorder",
    "Reply",
    "Upstream",
    "UpstreamError",
    "WholeReply",
    "nowhere",
    "untraced",
]

HeaderList: TypeAlias = "list[tuple[bytes, bytes]]"
#: Puts the trace of the running exchange into headers.
Injector: TypeAlias = Callable[[MutableMapping[str, str]], None]


class Recorder(Protocol):
    """Puts a fact into the exchange's record."""

    def __call__(self, event: str, /, **details: Any) -> None: ...


def nowhere(event: str, /, **details: Any) -> None:
    """A request outside of any exchange."""


def untraced(headers: MutableMapping[str, str]) -> None:
    """Nobody traces."""


class UpstreamError(LuthienError):
    """An upstream gave no answer, or half of one. `status`, `code` and the message are what the client is told:
    the message says nothing of addresses or credentials. `again`: asking once more may help."""

    def __init__(self, status: int, code: str, message: str, *, again: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.again = again
        self.headers: HeaderList = []  # what the upstream said beside it, `retry-after` above all


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way to an upstream, already decided."""

    wire_format: str
    method: str
    path: str  # "/v1/messages", without any mount
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    model: str = ""
    stream: bool = False
    forwards_credential: bool = True
    ambient: bool = False  # the host's own credentials, from the environment, may be used
    record: Recorder = field(default=nowhere)
    inject: Injector = field(default=untraced)


class Reply(Protocol):
    """One answer. Its first bytes are there when it is handed out, so its status is the upstream's last word."""

    status: int
    headers: HeaderList
    stream: bool  # SSE; otherwise `read` gives the whole body at once

    async def read(self) -> bytes:
        """The next bytes; b"" at the end. Raises UpstreamError when the answer breaks off."""
        ...

    async def aclose(self) -> None:
        """Give the connection back, or close it when the answer was not read to its end. Idempotent; called in cancelled
        scopes too, so whatever it awaits it shields, and bounds."""
        ...


class WholeReply:
    """An answer that is all there."""

    stream = False

    def __init__(self, status: int, headers: HeaderList, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    async def read(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def aclose(self) -> None:
        """Nothing is open."""


class Upstream(Protocol):
    """One entry of `upstreams`."""

    name: str
    fallback: Sequence[str]
    retries: int

    @property
    def origins(self) -> frozenset[str] | None:
        """Where it sends requests: scheme and host. Empty: nowhere; None: that depends on the model."""
        ...

    def needs_caller(self, call: Call) -> bool:
        """True when there is nothing to ask this with but the caller's own credential."""
        ...

    def speaks(self, call: Call) -> bool:
        """True when it can be asked this in this wire format, whatever the model."""
        ...

    def serves(self, call: Call) -> bool:
        """True when it speaks so and the model is its own."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ask(self, call: Call) -> Reply:
        """Send the request and await the first bytes of the answer. Raises UpstreamError."""
        ...

    async def models(self, call: Call) -> Sequence[Mapping[str, Any]]:
        """The models it has, each with an `id`; empty when it cannot say."""
        ...
