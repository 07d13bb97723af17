"""The events and bodies that the guard makes itself: what clients insist on is in them (name, usage, terminal)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.errors import HistoryKept

__all__ = ["error_of", "message_of", "usage_of"]

_ERRORS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error_of(status: int, message: str, code: str = "") -> dict[str, Any]:
    """The error object, the same in a body and in a stream; its type is one that the API documents."""
    kind = _ERRORS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error: dict[str, Any] = {"type": kind, "message": message}
    if code == HistoryKept.code:
        error["details"] = {"error_code": code, "unsupported": ["thread"]}
    return {"type": "error", "error": error}


def usage_of(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Usage with the two counts without which the SDKs raise."""
    found = {"input_tokens": 0, "output_tokens": 0, **(usage or {})}
    for key in ("input_tokens", "output_tokens"):
        if type(found[key]) is not int:
            found[key] = 0
    return found


def message_of(id: str, model: str, usage: Mapping[str, Any] | None, text: str | None) -> dict[str, Any]:
    """A message object: whole and ended with `text`, or (None) the empty beginning of a stream."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [] if text is None else [{"type": "text", "text": text}],
        "stop_reason": None if text is None else "end_turn",
        "stop_sequence": None,
        "usage": usage_of(usage),
    }
