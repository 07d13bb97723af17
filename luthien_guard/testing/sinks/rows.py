"""Rows of made-up exchanges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from luthien_guard.records import EventType
from luthien_guard.store import Row, chained, payload_of

__all__ = ["ASKED", "exchange_rows"]

#: What a client asked: its JSON can be spelled in many ways.
ASKED = 'Say "größe" C:\\Dir\nnext'


def exchange_rows(
    number: int, *texts: str, writer: str = "w", ended: bool = True, **request: Any
) -> list[Row]:
    """The rows of one exchange: `number` orders calls by time; `texts` become a policy's records."""
    call_id = f"0190{number:08x}-0000-7000-8000-000000000000"
    rows: list[Row] = []
    for seq, (type, policy, details) in enumerate(_facts(number, texts, writer, ended, request)):
        before = rows[-1].hash if rows else ""
        at = 1000.0 * number + seq
        rows.append(chained(call_id, seq, at, type.value, policy, payload_of(details), before))
    return rows


def _facts(
    number: int, texts: Iterable[str], writer: str, ended: bool, request: Mapping[str, Any]
) -> Iterator[tuple[EventType, str | None, dict[str, Any]]]:
    received = {"wire_format": "openai.chat", "endpoint": "/v1/chat/completions", "model": "m", "stream": True,
                "session_id": None, "writer": writer, "body": "{}", **request}  # fmt: skip
    yield EventType.REQUEST_RECEIVED, None, received
    for text in texts:
        yield EventType.POLICY_RECORD, "judge", {"text": text}
    yield EventType.USAGE, None, {"usage": {"total_tokens": number}}
    if ended:
        yield EventType.CLOSED, "judge", {"outcome": "blocked" if number % 2 else "success"}
