"""Answers of our own: a body that says something, an error, usage that cost nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.wire.format import is_identifier

__all__ = ["completion", "counts", "error_of"]

_ERROR_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def counts(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Usage as we say it: the numbers of `usage` (upstream's strings are not ours to repeat), and zeros for what
    clients want to be there."""
    found: dict[str, Any] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    for key, value in (usage or {}).items():
        if not is_identifier(key):
            continue
        if isinstance(value, Mapping):
            numbers = {k: v for k, v in value.items() if is_identifier(k) and type(v) in (int, float)}
            found[key] = numbers
        elif type(value) in (int, float):
            found[key] = value
    return found


def completion(call_id: str, model: str, message: str, usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """A whole chat completion that says `message` and stops."""
    answer = {"role": "assistant", "content": message, "refusal": None}
    return {
        "id": f"chatcmpl-{call_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": answer, "logprobs": None, "finish_reason": "stop"}],
        "usage": counts(usage),
    }


def error_of(status: int, code: str, message: str) -> dict[str, Any]:
    """An error as OpenAI spells it."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
