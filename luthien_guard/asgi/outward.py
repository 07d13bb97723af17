"""Which of the application's headers the client gets: those that stay true of an answer that a guard has decided."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from luthien_guard.asgi.headers import first, is_utf8, without
from luthien_guard.asgi.sniff import says_event_stream
from luthien_guard.asgi.types import Headers

__all__ = ["NO_BODY", "of_error", "of_nothing", "outward"]

NO_BODY: Final = (204, 205, 304)

#: What a response says about the exact bytes of its body: untrue once they may change.
_BOUND: Final = frozenset(
    {
        b"accept-ranges",
        b"content-digest",
        b"content-encoding",
        b"content-length",
        b"content-md5",
        b"content-range",
        b"digest",
        b"etag",
        b"repr-digest",
        b"trailer",
        b"transfer-encoding",
    }
)
#: What an error says to its client besides its body: true whatever the body is.
_OF_ERROR: Final = frozenset(
    {b"allow", b"retry-after", b"retry-after-ms", b"www-authenticate", b"x-should-retry"}
)


def outward(headers: Headers, *, stream: bool, made: bool, length: int | None) -> list[tuple[bytes, bytes]]:
    """Those of an answer with a body of `length` bytes, if that is known. `made`: its beginning is the guard's, and the
    application's label need not be true of it."""
    kept = [_utf8(pair) for pair in without(headers, _BOUND)]
    if made and not _says(kept, stream=stream):
        kept = [pair for pair in kept if pair[0] != b"content-type"]
    if length is not None and not stream:
        kept.append((b"content-length", b"%d" % length))
    if all(name != b"content-type" for name, _ in kept):
        # Without a label a client would sniff for itself.
        kept.append((b"content-type", b"text/event-stream" if stream else b"application/json"))
    return kept


def of_nothing(headers: Headers, status: int, *, preflight: bool) -> Iterable[tuple[bytes, bytes]]:
    """Those of an answer without a body. HEAD, 204 and 304 may have the length of one that is elsewhere."""
    if not preflight or status in NO_BODY:
        return headers
    return [*without(headers, _BOUND), (b"content-length", b"0")]


def of_error(headers: Headers) -> Headers:
    """Those that stay true where the guard says the application's error in other words."""
    return tuple(pair for pair in headers if pair[0] in _OF_ERROR)


def _says(headers: Iterable[tuple[bytes, bytes]], *, stream: bool) -> bool:
    label = first(headers, b"content-type")
    return says_event_stream(label) if stream else b"json" in label.lower()


def _utf8(pair: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """The guard has read the body as UTF-8: no label may make the client read it as anything else."""
    name, value = pair
    if name != b"content-type" or is_utf8(value):
        return pair
    return name, value.split(b";", 1)[0] + b"; charset=utf-8"
