"""The one credential of a request. Two that differ are refused: what one part of a system reads, another may not."""

from __future__ import annotations

from typing import Final

from luthien_guard.gateway.auth import Headers, Refusal

__all__ = ["AMBIGUOUS", "MISSING", "credential_of"]

#: Where clients put their key. `Proxy-Authorization` is about the connection and never counts.
_HEADERS: Final = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
MISSING: Final = Refusal(
    401, "missing_api_key", "a key is needed: Authorization: Bearer KEY, or x-api-key: KEY"
)
AMBIGUOUS: Final = Refusal(
    401, "ambiguous_credentials", "two different credentials in one request: send one of them"
)
_MALFORMED: Final = Refusal(401, "malformed_credentials", "Authorization must be `Bearer KEY`")
_LONGEST: Final = 16 * 1024  # OAuth tokens of some providers are several kilobytes


def credential_of(headers: Headers) -> str | Refusal | None:
    """The key that a request carries, without its scheme; None without any. The same one in several headers is one."""
    found: set[str] = set()
    for name, value in headers:
        if name in _HEADERS:
            key = _bearer(value) if name == b"authorization" else value.strip().decode("latin-1")
            if key is None or not key or len(key) > _LONGEST or any(letter.isspace() for letter in key):
                return _MALFORMED
            found.add(key)
    if len(found) > 1:
        return AMBIGUOUS
    return found.pop() if found else None


def _bearer(value: bytes) -> str | None:
    scheme, _, key = value.strip().decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
