"""The ASGI endpoint: a decided request to an upstream, its answer back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from anyio import CancelScope
from anyio.lowlevel import checkpoint

from luthien_guard.asgi.handle import ExchangeHandle
from luthien_guard.asgi.headers import frozen
from luthien_guard.asgi.request import ClientGone, RequestTimeout, read_body
from luthien_guard.asgi.types import Headers, Receive, Scope, Send
from luthien_guard.clock import MonotonicClock
from luthien_guard.errors import BodyTooLarge
from luthien_guard.gateway.auth import Principal
from luthien_guard.gateway.metrics import Metrics
from luthien_guard.gateway.upstreams import Upstreams
from luthien_guard.gateway.upstreams.types import Call, Injector, Reply, UpstreamError, nowhere, untraced
from luthien_guard.gateway.vigil import kept
from luthien_guard.limits import Limits
from luthien_guard.wire.formats import FORMATS

__all__ = ["PRINCIPAL", "Relay", "answer_error", "own_path"]

#: Where the doorway leaves who asks: `scope["state"][PRINCIPAL]`.
PRINCIPAL: Final = "luthien_principal"
_CLOCK: Final = MonotonicClock()
_JSON: Final = (b"content-type", b"application/json")
_LONGEST: Final = 2000  # characters of what an upstream says for people
_LOOKS: Final = 4  # while a silence may last
_SILENT: Final = UpstreamError(504, "idle_timeout", "the upstream fell silent")
_ENDLESS: Final = UpstreamError(504, "total_timeout", "the answer took longer than an exchange may")


class Relay:
    """Serves the paths of one wire format; or, `unseen`, others: what they answer may be anything. `redact`: what blacks
    out the deployment's secrets, which an upstream may repeat in its errors."""

    def __init__(
        self,
        wire_format: str,
        upstreams: Upstreams,
        limits: Limits,
        metrics: Metrics,
        *,
        redact: Callable[[str], str],
        unseen: bool = False,
    ) -> None:
        self.redact = redact
        self.unseen = unseen
        self.wire_format = wire_format
        self.upstreams = upstreams
        self.limits = limits
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.upstreams.start()
        try:
            body = await read_body(receive, [], self.limits, _CLOCK, _CLOCK())
        except ClientGone:
            return
        except (BodyTooLarge, RequestTimeout) as error:  # on a guarded path the middleware was first
            await answer_error(send, self.wire_format, error.status, error.code, str(error))
            return
        await _Passage(
            self, call_of(scope, self.wire_format, body, self.upstreams.inject), receive, send
        ).run()


class _Passage:
    """One request."""

    def __init__(self, relay: Relay, call: Call, receive: Receive, send: Send) -> None:
        self._relay = relay
        self._call = call
        self._receive = receive
        self._send = send
        self._began = False
        self._started_at = time.monotonic()
        self._ends_at = self._started_at + _after(relay.limits.total_timeout)
        self._since: float | None = None  # when the upstream's turn to go on began
        self._upstream = ""

    async def run(self) -> None:
        with self._relay.metrics.running(self._call.wire_format):
            every = self._relay.limits.idle_timeout / _LOOKS
            if await kept(self._serve, self._receive, self._time_left, every):
                return
            silent = self._since is not None or not self._began
            await self._failed(_SILENT if silent else _ENDLESS)

    async def _serve(self, scope: CancelScope) -> None:
        try:
            upstream, reply = await self._relay.upstreams.ask(self._call)
        except UpstreamError as error:
            return await self._failed(error)
        self._upstream = upstream.name
        self._call.record("upstream.answered", upstream=upstream.name, status=reply.status)
        try:
            await self._pass_on(reply, scope)
        except UpstreamError as error:
            await self._failed(error)
        finally:
            await reply.aclose()
        return None

    async def _pass_on(self, reply: Reply, scope: CancelScope) -> None:
        data = await reply.read()
        if not reply.stream:
            return await self._whole(reply, data)
        await self._begin(reply.status, [pair for pair in reply.headers if pair[0] != b"content-length"])
        send = self._send
        while data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
            if scope.cancel_called:
                await checkpoint()  # where it arrives: see `kept`
            self._since = time.monotonic()
            data = await reply.read()
            self._since = None
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return None

    async def _whole(self, reply: Reply, body: bytes) -> None:
        headers = reply.headers
        if not self._relay.unseen:
            body = _legible(self._call, reply.status, body)
            headers = [*(pair for pair in headers if pair[0] != b"content-type"), _JSON]
        await self._begin(reply.status, [*headers, (b"content-length", b"%d" % len(body))])
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._began = True
        took = time.monotonic() - self._started_at
        self._relay.metrics.answered(self._call.wire_format, self._upstream, status, took)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _failed(self, error: UpstreamError) -> None:
        """Before the first byte: an error of our own. After it: leave without an end; the middleware says so in the
        client's wire format."""
        reason = self._relay.redact(str(error))[:_LONGEST]
        self._call.record("upstream.failed", code=error.code, status=error.status, reason=reason)
        self._relay.metrics.failed(self._call.wire_format, error.code)
        if not self._began:
            self._began = True
            wire_format, headers = self._call.wire_format, tuple(error.headers)
            await answer_error(self._send, wire_format, error.status, error.code, reason, headers)

    def _time_left(self) -> float:
        end = self._ends_at
        if self._since is not None:
            end = min(end, self._since + _after(self._relay.limits.idle_timeout))
        return end - time.monotonic()


def _after(seconds: float) -> float:
    """A little more: the deadlines of the middleware go first, they know more."""
    return seconds * 1.05 + 0.25


def call_of(scope: Scope, wire_format: str, body: bytes, inject: Injector = untraced) -> Call:
    """The request as upstreams see it. The path is the application's own, without its mount."""
    state: Any = scope.get("state") or {}
    found = state.get(PRINCIPAL)
    principal = found if isinstance(found, Principal) else Principal()
    handle = state.get("luthien")
    if not isinstance(handle, ExchangeHandle):
        handle = None
    decision = None if handle is None else handle.decision
    if decision is not None and decision.body == body:  # a retry's is another one
        model, stream = decision.model, decision.stream
    else:
        model, stream = _asked(body)
    return Call(
        wire_format=wire_format,
        method=scope["method"],
        path=own_path(scope),
        query=scope.get("query_string", b""),
        headers=frozen(scope["headers"]) if handle is None else scope["headers"],  # the guard has frozen them
        body=body,
        model=model,
        stream=stream,
        forwards_credential=principal.forwards_credential,
        ambient=principal.ambient or not principal.forwards_credential,
        record=nowhere if handle is None else handle.record,
        inject=inject,
    )


async def answer_error(
    send: Send, wire_format: str, status: int, code: str, message: str, headers: Headers = ()
) -> None:
    """An error in the shape that the clients of this wire format read."""
    body = FORMATS[wire_format].error(status, code, message)
    start = [_JSON, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def own_path(scope: Scope) -> str:
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(root + "/") else path


def _asked(body: bytes) -> tuple[str, bool]:
    """Model and `stream`: only to pick an upstream; what the request means was decided before."""
    import jiter

    try:
        data = jiter.from_json(body) if body else None
    except ValueError:
        return "", False
    if not isinstance(data, Mapping):
        return "", False
    model = data.get("model")
    return model if isinstance(model, str) else "", bool(data.get("stream", False))


def _legible(call: Call, status: int, body: bytes) -> bytes:
    """A body that is JSON, as far as its ends show: an error page in HTML says nothing to an SDK, and a success that is
    no JSON is none. Only a model request has to be answered with something."""
    if not body and status < 400 and call.method != "POST":
        return body
    text = body.strip()
    if text[:1] in (b"{", b"[") and text[-1:] in (b"}", b"]"):
        return body
    if status < 400:
        raise UpstreamError(502, "upstream_error", "the upstream's answer is not JSON")
    return FORMATS[call.wire_format].error(
        status, "upstream_error", f"the upstream answered with status {status}"
    )
