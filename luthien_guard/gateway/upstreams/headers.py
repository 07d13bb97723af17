"""Which headers cross the gateway, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from luthien_guard.gateway.upstreams.types import Call, HeaderList, UpstreamError

__all__ = ["CREDENTIALS", "for_client", "for_upstream", "text_of"]

#: RFC 9110, 7.6.1: about one connection, not about the message.
_HOP_BY_HOP: Final = frozenset(
    b"""
    connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer
    transfer-encoding upgrade
    """.split()
)
CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
_KEY_HEADERS: Final = frozenset(name.decode() for name in CREDENTIALS)
#: Of the request: made anew; said about the way to the gateway, which is no provider's business; able to make another
#: request of the one that was decided.
_NOT_ONWARD: Final = _HOP_BY_HOP | frozenset(
    b"""
    accept-encoding content-length expect host http2-settings
    cf-connecting-ip cookie forwarded origin referer true-client-ip via x-client-ip x-cluster-client-ip x-real-ip
    if-range range x-host x-http-method x-http-method-override x-method-override
    """.split()
)
_PREFIXES_NOT_ONWARD: Final = (
    b"x-luthien-",
    b"x-forwarded-",
    b"sec-",
    b"x-original-",
    b"x-rewrite-",
    b"x-envoy-",
)
#: Of the answer: made anew; able to lead a client around the gateway; what a proxy in front of it, or a browser, would
#: obey.
_NOT_BACK: Final = _HOP_BY_HOP | frozenset(
    b"""
    content-encoding content-length date server
    alt-svc location refresh set-cookie strict-transport-security
    x-lighttpd-send-file x-lighttpd-send-tempfile x-reproxy-url x-sendfile
    clear-site-data content-location link nel report-to reporting-endpoints
    """.split()
)
_PREFIXES_NOT_BACK: Final = (b"x-luthien-", b"x-accel-")


def for_upstream(call: Call, api_key: str | None, further: Mapping[str, str]) -> list[tuple[str, str]]:
    """The request's headers as the upstream gets them, with one credential: the configured one, be it a key or among
    the `further` headers, or the caller's. Raises UpstreamError."""
    has_key = any(name.lower() in _KEY_HEADERS for name in further)
    keeps_key = api_key is None and not has_key and call.forwards_credential
    kept: list[tuple[str, str]] = []
    left_out = {name.lower() for name in further}
    for name, value in call.headers:
        text = _onward(name)
        if text is not None and (keeps_key or name not in CREDENTIALS):
            kept.append((text, text_of(value)))
        elif name == b"connection":
            left_out |= _nominated(value)
    traced: dict[str, str] = {}
    call.inject(traced)
    left_out.update(traced)
    if left_out:
        kept = [pair for pair in kept if pair[0] not in left_out]
    kept.append(("accept-encoding", "identity"))
    if api_key is not None and not has_key:
        kept.append(_credential(call.wire_format, api_key))
    return [*kept, *traced.items(), *further.items()]


def for_client(headers: Iterable[tuple[bytes, bytes]]) -> HeaderList:
    """The answer's headers as the client gets them: request ids, rate limits and retry-after among them."""
    kept: HeaderList = []
    nominated: frozenset[str] = frozenset()
    for name, value in headers:
        lowered = _back(bytes(name))
        if lowered is not None:
            kept.append((lowered, bytes(value)))
        elif name.lower() == b"connection":
            nominated |= _nominated(value)
    return [pair for pair in kept if pair[0].decode("latin-1") not in nominated] if nominated else kept


def text_of(value: bytes) -> str:
    """A header's value, for a client that writes UTF-8. Raises UpstreamError where other bytes would leave than came."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UpstreamError(400, "invalid_header", "a header is not in UTF-8", again=False) from None


@lru_cache(maxsize=1024)
def _onward(name: bytes) -> str | None:
    """The header's name on the way to an upstream; None where it stays."""
    if name in _NOT_ONWARD or name.startswith(_PREFIXES_NOT_ONWARD):
        return None
    return name.decode("latin-1")


@lru_cache(maxsize=1024)
def _back(name: bytes) -> bytes | None:
    """The header's name on the way to the client; None where it stays."""
    lowered = name.lower()
    return None if lowered in _NOT_BACK or lowered.startswith(_PREFIXES_NOT_BACK) else lowered


def _nominated(value: bytes) -> frozenset[str]:
    """What `connection` says is about this connection only."""
    return frozenset(token.strip().lower().decode("latin-1") for token in value.split(b","))


def _credential(wire_format: str, api_key: str) -> tuple[str, str]:
    # OAuth tokens are bearers.
    if wire_format == "anthropic.messages" and not api_key.startswith("sk-ant-oat"):
        return ("x-api-key", api_key)
    return ("authorization", f"Bearer {api_key}")
