"""Bounds on everything a peer can make large or slow. Every one is on by default."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from luthien_guard.errors import ConfigError

__all__ = ["Limits"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds on a monotonic clock. Raises ConfigError for what is no size or no time: it would
    fail when traffic comes."""

    max_request_bytes: int = 32 * MIB  # after decoding; Anthropic's own limit is 32 MB
    # Of a body that is not streamed; of a stream, what is kept of strings that the wire format does not know.
    max_response_bytes: int = 64 * MIB
    max_stream_bytes: int = 512 * MIB  # of a streamed one: what it says is kept until its end
    max_event_bytes: int = 4 * MIB  # one SSE frame; `response.completed` repeats the whole answer
    max_held_bytes: int = 16 * MIB  # kept back by policies, per exchange
    max_choices: int = 128  # of one response, and never more than that: openai.chat allows n up to 128
    max_blocks: int = 4096  # texts and tool calls of one response
    idle_timeout: float = 120.0  # between two chunks of upstream
    total_timeout: float = 3600.0
    request_timeout: float = 60.0  # to receive the request's body
    hook_timeout: float = 30.0  # one call of one hook
    keepalive_interval: float = 15.0  # while text or a call is held
    close_timeout: float = 5.0  # to close the record after a cancellation
    max_retries: int = 2  # `Retry` verdicts honoured per exchange

    def __post_init__(self) -> None:
        for each in fields(self):
            problem = _wrong(each.name, str(each.type), getattr(self, each.name))
            if problem:
                raise ConfigError(f"limits: {each.name} is {getattr(self, each.name)!r}: use {problem}")


def _wrong(name: str, kind: str, value: Any) -> str | None:
    """What is to be used instead. NaN is not above anything."""
    fits = isinstance(value, int if kind == "int" else (int, float)) and not isinstance(value, bool)
    if name == "max_retries":
        return None if fits and value >= 0 else "a whole number, 0 or more"
    if fits and value > 0:
        return None
    return "a whole number, more than 0" if kind == "int" else "a number of seconds, more than 0"
