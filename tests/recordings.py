"""The recorded provider traffic that tests read: `../shared/recordings`, or `$LUTHIEN_RECORDINGS`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.wire.json_text import DELETE, patch

FOLDER = Path(
    os.environ.get("LUTHIEN_RECORDINGS") or Path(__file__).resolve().parents[2] / "shared" / "recordings"
)

needs_recordings = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}; set LUTHIEN_RECORDINGS"
)


@dataclass(frozen=True)
class Recording:
    id: str
    api: str
    stream: bool
    status: int
    headers: dict[str, str]
    body: bytes
    request: dict[str, Any] | None
    provider: str

    def __repr__(self) -> str:
        return f"{self.api}-{self.id}"


@cache
def recordings(api: str | None = None) -> tuple[Recording, ...]:
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        raw = json.loads(path.read_text())
        if api is not None and raw["api"] != api:
            continue
        response = raw["response"]
        found.append(
            Recording(
                id=raw["id"],
                api=raw["api"],
                stream=raw["stream"],
                status=response["status"],
                headers=dict(response["headers"]),
                body=(response["body_text"] or "").encode(),
                request=(raw["request"] or {}).get("body") if raw.get("request") else None,
                provider=raw["provider"],
            )
        )
    return tuple(found)


def made_plain(body: bytes) -> bytes:
    """Without the messages that repeat a delta beside them, of which some clients read both; lines that only some readers
    read are comments."""
    body = re.sub(rb"(?m)^(?= data:)", b": ", body)
    return re.sub(rb"(?m)^data: (\{.*\})", _without_repeats, body) if b'"message":' in body else body


def _without_repeats(line: re.Match[bytes]) -> bytes:
    data = json.loads(line[1])
    found = enumerate(data.get("choices") or ())
    gone = [at for at, one in found if one.get("message") and (one.get("delta") or {}).get("content")]
    text = line[1].decode()
    return b"data: " + patch(text, {("choices", at, "message"): DELETE for at in gone}).encode()


def pairs(a: Any, b: Any) -> Iterator[tuple[Any, Any]]:
    """The leaves of two values of one shape, side by side."""
    if isinstance(a, dict) and isinstance(b, dict) and list(a) == list(b):
        for key in a:
            yield from pairs(a[key], b[key])
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for one, other in zip(a, b, strict=True):
            yield from pairs(one, other)
    else:
        yield a, b
