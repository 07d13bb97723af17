"""Heads of messages: an ASGI peer may give headers as any iterable of pairs in any case, and may change it later."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from luthien_guard.asgi.types import Headers, Message

__all__ = ["first", "frozen", "is_utf8", "started", "values", "without"]


def started(message: Message) -> tuple[int, Headers]:
    """What `http.response.start` says. Raises RuntimeError for a status that ends no answer: clients take what follows an
    interim one (1xx) for the next answer."""
    status = message["status"]
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise RuntimeError(f"http.response.start with status {status!r}: use a whole number from 200 to 999")
    return status, frozen(message.get("headers", ()))


def frozen(headers: Iterable[Any]) -> Headers:
    """A copy that nobody can change, names in lower case; some servers append trailers to the same list later. Order and
    repeats stay."""
    pairs = tuple(headers)
    # Nearly all are so already: a stream that is open for long holds the server's own pairs, and no copies of them.
    for pair in pairs:
        name, value = pair
        if not (type(pair) is tuple and type(name) is type(value) is bytes and name.islower()):
            return tuple([(bytes(name).lower(), bytes(value)) for name, value in pairs])
    return pairs


def values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """The value of the first header of that name, b"" if there is none."""
    for key, value in headers:
        if key == name:
            return value
    return b""


def without(headers: Headers, names: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if pair[0] not in names]


_CHARSET: Final = re.compile(rb"charset([^;,]*)", re.IGNORECASE)
_UTF8: Final = re.compile(rb"\s*=\s*[\"']?(?:utf-?8|(?:us-)?ascii)[\"']?\s*", re.IGNORECASE)


def is_utf8(content_type: bytes) -> bool:
    """True unless the content type names a charset in which the bytes could say something else, or spells one in a way
    that only some read (RFC 2231: `charset*=utf-8''utf-7`, `charset*0=utf; charset*1=-7`)."""
    named = _CHARSET.findall(content_type)
    return not named or all(map(_UTF8.fullmatch, named))
