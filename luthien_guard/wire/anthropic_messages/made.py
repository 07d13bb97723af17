"""What the guard itself says in this format: events, messages, errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.wire.format import is_identifier
from luthien_guard.wire.json_text import dumps
from luthien_guard.wire.sse import canonical

__all__ = ["counts", "error_body", "event", "message", "output_counts"]

_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def event(kind: str, **fields: Any) -> bytes:
    """One frame, with the name that clients dispatch on."""
    return canonical(dumps({"type": kind, **fields}).encode(), kind)


def message(id: str, model: str, content: list[Any], stop_reason: str | None, usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def counts(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """The numbers of a usage, with those that clients cannot do without. Only numbers: a string may be the very thing
    for which the answer was blocked."""
    found = _numbers(usage or {})
    return {**found, "input_tokens": _count(found, "input_tokens"), "output_tokens": _count(found, "output_tokens")}


def output_counts(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same for `message_delta`, which may leave out the input."""
    found = _numbers(usage or {})
    return {**found, "output_tokens": _count(found, "output_tokens")}


def _count(found: Mapping[str, Any], key: str) -> int:
    value = found.get(key)
    return value if type(value) is int else 0


def _numbers(usage: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in usage.items():
        if not is_identifier(key):
            continue
        if isinstance(value, Mapping):
            found[key] = _numbers(value)
        elif type(value) in (int, float):
            found[key] = value
    return found


def error_body(status: int, code: str, text: str) -> dict[str, Any]:
    """The error object of this provider. `code` is kept where it is one of the provider's own types."""
    kind = code if code in _KINDS.values() or code == "api_error" else None
    kind = kind or _KINDS.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": text}}
