"""Which headers cross the gateway, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from luthien_guard.gateway.upstreams.types import Call, HeaderList

__all__ = ["CREDENTIALS", "for_client", "for_upstream"]

#: RFC 9110, 7.6.1: about one connection, not about the message.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
#: Of the request: made anew, or said about the way to the gateway, which is no provider's business.
_NOT_ONWARD: Final = _HOP_BY_HOP | {
    b"accept-encoding",
    b"content-length",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"http2-settings",
    b"origin",
    b"referer",
    b"via",
    b"x-real-ip",
}
#: Of the answer: made anew, or able to lead a client around the gateway.
_NOT_BACK: Final = _HOP_BY_HOP | {
    b"alt-svc",
    b"content-encoding",
    b"content-length",
    b"date",
    b"location",
    b"refresh",
    b"server",
    b"set-cookie",
    b"strict-transport-security",
}
_PREFIXES_NOT_ONWARD: Final = (b"x-luthien-", b"x-forwarded-", b"sec-")
_OWN_PREFIX: Final = b"x-luthien-"


def for_upstream(call: Call, api_key: str | None, further: Mapping[str, str]) -> list[tuple[str, str]]:
    """The request's headers as the upstream gets them, with one credential: the configured one, or the caller's."""
    keeps_key = api_key is None and call.forwards_credential
    replaced = {name.lower().encode() for name in further}
    dropped = _NOT_ONWARD | _named_by_connection(call.headers) | replaced | {b"accept-encoding"}
    kept = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in call.headers
        if name not in dropped
        and not name.startswith(_PREFIXES_NOT_ONWARD)
        and (keeps_key or name not in CREDENTIALS)
    ]
    kept.append(("accept-encoding", "identity"))
    if api_key is not None and not replaced & CREDENTIALS:
        kept.append(_credential(call.wire_format, api_key))
    traced: dict[str, str] = {}
    call.inject(traced)
    kept = [pair for pair in kept if pair[0] not in traced]
    return [*kept, *traced.items(), *further.items()]


def for_client(headers: Iterable[tuple[bytes, bytes]]) -> HeaderList:
    """The answer's headers as the client gets them: request ids, rate limits and retry-after among them."""
    lowered = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    dropped = _NOT_BACK | _named_by_connection(lowered)
    return [pair for pair in lowered if pair[0] not in dropped and not pair[0].startswith(_OWN_PREFIX)]


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    return frozenset(
        token.strip().lower()
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    )


def _credential(wire_format: str, api_key: str) -> tuple[str, str]:
    if wire_format == "anthropic.messages" and not api_key.startswith(
        "sk-ant-oat"
    ):  # OAuth tokens are bearers
        return ("x-api-key", api_key)
    return ("authorization", f"Bearer {api_key}")
