"""litellm's exceptions as what a client of the wire format expects."""

from __future__ import annotations

import re
from typing import Any, Final

from luthien_guard.gateway.upstreams.headers import for_client
from luthien_guard.gateway.upstreams.types import HeaderList, UpstreamError

__all__ = ["failure_of"]

#: litellm puts its own name, the exception's and the provider's in front of what the provider said.
_PREFIX: Final = re.compile(r"^(?:litellm\.)?\w*(?:Error|Exception|Timeout)\b[:\s-]*(?:\w*(?:Error|Exception)\b[:\s-]*)*")
_CODES: Final = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "permission_denied",
    404: "not_found",
    408: "upstream_timeout",
    413: "request_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    529: "overloaded",
}


def failure_of(error: Exception) -> UpstreamError:
    """The status that the provider gave, and its words. What is not the provider's own answer (no route, a package that
    is missing here, a bug) is 502 or 501, and says nothing of the inside."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return _missing(error.name)
    if type(error).__name__ == "APIConnectionError":
        missing = re.search(r"No module named '(\w+)", str(error))
        if missing is not None:
            return _missing(missing[1])
        return UpstreamError(502, "upstream_unreachable", "the upstream cannot be reached")
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or not 400 <= status <= 599:
        return UpstreamError(502, "upstream_error", "the upstream failed")
    again = status in (408, 429, 529) or status >= 500
    failure = UpstreamError(status, _CODES.get(status, "upstream_error"), _words(error), again=again)
    failure.headers = _headers(error)
    return failure


def _missing(package: str | None) -> UpstreamError:
    message = f"this call of litellm's needs the package {package}, which is not installed here"
    return UpstreamError(501, "not_installed", message, again=False)


def _words(error: Any) -> str:
    """The provider's message: a line, without litellm's prefixes, never a traceback."""
    text = str(getattr(error, "message", None) or error).split("\nTraceback", 1)[0]
    return _PREFIX.sub("", text).strip()[:2000] or "the upstream refused the request"


def _headers(error: Any) -> HeaderList:
    found = getattr(getattr(error, "response", None), "headers", None)
    if found is None:
        return []
    pairs = ((str(name).encode("latin-1", "replace"), str(value).encode("latin-1", "replace")) for name, value in found.items())
    return [pair for pair in for_client(pairs) if pair[0] != b"content-type"]
