"""litellm's exceptions as what a client of the wire format expects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from luthien_guard.gateway.upstreams.headers import for_client
from luthien_guard.gateway.upstreams.types import UpstreamError

__all__ = ["failure_of"]

#: litellm puts its own name, the exception's and the provider's in front of what the provider said.
_PREFIX: Final = re.compile(r"^(?:(?:litellm\.)?\w*(?:Error|Exception|Timeout)\b[:\s-]*)+")
_MISSING: Final = re.compile(r"No module named '(\w+)")
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
_AGAIN: Final = (408, 409, 425, 429)


def failure_of(error: Exception) -> UpstreamError:
    """The status that the provider gave, and its words. litellm rewrites both; the HTTP answer itself is among the
    causes of its exception. Where there was none (no route, a package that is missing here, a bug) it is 502, 504 or 501,
    and says nothing of the inside. The words are whole: whoever passes them on blacks out what is secret, and then cuts."""
    if isinstance(error, UpstreamError):
        return error
    causes = list(_causes(error))
    if (package := _missing(causes)) is not None:
        message = f"this call of litellm's needs the package {package}, which is not installed here"
        return UpstreamError(501, "not_installed", message, again=False)
    for cause in causes:
        response = getattr(cause, "response", None)
        if type(cause).__name__ == "HTTPStatusError" and response is not None:
            return _answered(response)
    if any("Timeout" in type(cause).__name__ for cause in causes):
        return UpstreamError(504, "upstream_timeout", "the upstream did not answer in time")
    status = getattr(error, "status_code", None)
    # litellm's own: a request it cannot make.
    if len(causes) == 1 and isinstance(status, int) and 400 <= status < 500:
        return UpstreamError(status, _CODES.get(status, "invalid_request"), _words(error), again=False)
    return UpstreamError(502, "upstream_unreachable", "the upstream cannot be reached, or broke off")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _missing(causes: list[BaseException]) -> str | None:
    for cause in causes:
        if isinstance(cause, ModuleNotFoundError):
            return cause.name
        if type(cause).__name__ == "APIConnectionError" and (found := _MISSING.search(str(cause))):
            return found[1]
    return None


def _answered(response: Any) -> UpstreamError:
    status = int(response.status_code)
    if 300 <= status < 400:
        return UpstreamError(502, "upstream_error", "the upstream points elsewhere", again=False)
    if status < 400:
        return UpstreamError(502, "upstream_error", "the upstream's answer cannot be read")
    again = status in _AGAIN or status >= 500
    failure = UpstreamError(status, _CODES.get(status, "upstream_error"), _message(response), again=again)
    pairs = [
        (str(name).encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
        for name, value in response.headers.items()
    ]
    failure.headers = [pair for pair in for_client(pairs) if pair[0] != b"content-type"]
    return failure


def _message(response: Any) -> str:
    """What the provider says for people, in any of the usual places."""
    try:
        found: Any = json.loads(response.text)
    except Exception:  # noqa: BLE001 -- no JSON, or a stream that nobody read
        found = None
    for key in ("error", "message"):
        found = found.get(key, found) if isinstance(found, dict) else found
    return (
        found
        if isinstance(found, str) and found
        else f"the upstream answered with status {response.status_code}"
    )


def _words(error: Any) -> str:
    """litellm's message about the request: its first line, without the names of exceptions."""
    text = str(getattr(error, "message", None) or error).strip().split("\n", 1)[0]
    return _PREFIX.sub("", text).strip() or "the request cannot be made"
