"""Bounds on everything a peer can make large or slow. Every one is on by default."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds on a monotonic clock."""

    max_request_bytes: int = 32 * MIB  # after decoding; Anthropic's own limit is 32 MB
    max_response_bytes: int = 64 * MIB  # of a body that is not streamed
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
