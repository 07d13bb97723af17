"""What the guard writes into a stream, as the JSON of litellm's chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jiter

from luthien_guard.client.exchange import ClientExchange
from luthien_guard.client.litellm_api import no_choice

__all__ = ["chunks_in"]


def chunks_in(raw: bytes, exchange: ClientExchange) -> Iterator[dict[str, Any]]:
    """Those that the caller of this exchange gets. Raises litellm's APIError for an error that the guard tells."""
    for data in _frames(raw):
        if exchange.dialect.wire_format == "openai.chat" and not data.get("choices"):
            if "error" in data:
                raise exchange.api_error(502, str(data["error"].get("message")))
            if "usage" in data and not exchange.wants_usage:
                continue  # litellm keeps it from callers who did not ask
            data["choices"] = no_choice(usage="usage" in data)
        yield data


def _frames(raw: bytes) -> list[dict[str, Any]]:
    """The JSON of the SSE events in bytes that the guard wrote: canonical ones, one data line each."""
    lines = [line[5:].strip() for line in raw.split(b"\n") if line.startswith(b"data:")]
    return [_parsed(line) for line in lines if line != b"[DONE]"]


def _parsed(raw: bytes) -> Any:
    try:
        return jiter.from_json(raw)
    except ValueError:  # a lone surrogate
        return json.loads(raw)
