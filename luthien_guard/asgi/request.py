"""The request's side: its headers frozen, its body whole, decoded and within limits."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from anyio.lowlevel import checkpoint

from luthien_guard.asgi.encoding import decode_body, layers
from luthien_guard.asgi.headers import is_utf8, values, without
from luthien_guard.asgi.types import Headers, Receive
from luthien_guard.asgi.websocket import REASON, wants_websocket
from luthien_guard.clock import Clock
from luthien_guard.errors import BodyTooLarge, MalformedBody, UnsupportedEncoding, WireError
from luthien_guard.limits import Limits
from luthien_guard.pipeline import OutOfTime, in_time

__all__ = [
    "ClientGone",
    "NotHTTP",
    "RequestTimeout",
    "body_headers",
    "check_headers",
    "has_left",
    "read_body",
    "resumes",
]

#: Headers of which two different values mean two different requests.
_SINGLE: Final = (b"content-type", b"content-encoding", b"content-length")
#: Messages about a body that is over, before a `receive` is taken for one that says the same thing for ever.
_REPEATS: Final = 8
#: Said about the body as it came, or an invitation to encode the answer, or send a part of it, so that it cannot be
#: inspected.
_REPLACED: Final = frozenset(
    {
        b"accept-encoding",
        b"content-encoding",
        b"content-length",
        b"expect",
        b"if-range",
        b"range",
        b"te",
        b"trailer",
        b"transfer-encoding",
    }
)


class RequestTimeout(WireError):
    """The body did not arrive in time."""

    status = 408
    code = "request_timeout"


class NotHTTP(WireError):
    """A handshake."""

    status = 426
    code = "websocket_not_guarded"


class ClientGone(Exception):
    """The client hung up before its request was whole."""


def check_headers(headers: Headers, limits: Limits) -> list[str]:
    """The layers of content encoding. Raises NotHTTP, MalformedBody, UnsupportedEncoding, BodyTooLarge."""
    fields = dict(headers)
    if b"upgrade" in fields and wants_websocket(headers):
        raise NotHTTP(REASON)
    if len(fields) != len(headers):
        for name in _SINGLE:
            if len(set(values(headers, name))) > 1:
                raise MalformedBody(f"{name.decode()} is given twice with different values")
    label = fields.get(b"content-type", b"")
    if label != b"application/json" and not is_utf8(label):  # which nearly all say, and no more
        raise UnsupportedEncoding("JSON is UTF-8: no other charset is read")
    length = fields.get(b"content-length", b"0")
    if not length.isdigit():
        raise MalformedBody("content-length is not a number")
    if len(length) > 20 or int(length) > limits.max_request_bytes:
        raise BodyTooLarge(f"the body is larger than {limits.max_request_bytes} bytes")
    return layers(values(headers, b"content-encoding")) if b"content-encoding" in fields else []


async def read_body(
    receive: Receive, encoding: list[str], limits: Limits, clock: Clock, began: float
) -> bytes:
    """The whole body, decoded, of a request that began then. Raises ClientGone, RequestTimeout and what `decode_body`
    raises."""
    try:
        body = await in_time(
            clock, began + limits.request_timeout, _received(receive, limits.max_request_bytes)
        )
    except OutOfTime:
        message = f"the body did not arrive within {limits.request_timeout:g} seconds"
        raise RequestTimeout(message) from None
    if not encoding or not body:
        return body
    return decode_body(encoding, body, limits.max_request_bytes)


async def _received(receive: Receive, limit: int) -> bytes:
    # Not a list: of a few bytes each, its pieces take ten times as much memory as the body.
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        part = message.get("body") or b""
        if len(body) + len(part) > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes")
        last = not message.get("more_body", False)
        if last and not body:
            return part if type(part) is bytes else bytes(part)
        body += part
        if last:
            return bytes(body)


async def has_left(receive: Receive) -> bool:
    """Wait until the client has left. False when `receive` will never say so: middleware further out may replay the body
    at every call, which would turn this into a loop that lets nobody else run."""
    for _ in range(_REPEATS):
        if (await receive())["type"] == "http.disconnect":
            return True
        await checkpoint()
    return False


def body_headers(headers: Headers, body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that the application gets: about this body, and asking for an answer that can be read."""
    kept = without(headers, _REPLACED)
    if body or any(name in (b"content-length", b"transfer-encoding") for name, _ in headers):
        kept.append((b"content-length", b"%d" % len(body)))
    return kept


def resumes(query: bytes) -> bool:
    """Whether it asks for what comes after a place in a stored answer, however it spells that."""
    return b"starting_after" in unquote_to_bytes(query).lower()
