"""`jsonl:///path`: one JSON object a row, appended; for whoever ships, greps or archives.

Writing is cheap; who asks reads the file once, and keeps in memory where each call stands. For questions all day long
take `sqlite:///`.
"""

from __future__ import annotations

from luthien_guard.sinks.jsonl.store import JsonlStore
from luthien_guard.sinks.urls import file_of

__all__ = ["JsonlStore", "from_url"]


def from_url(url: str) -> JsonlStore:
    """`jsonl:///relative.jsonl`, `jsonl:////absolute.jsonl`. Raises ConfigError."""
    return JsonlStore(file_of(url, "jsonl", "jsonl"))
