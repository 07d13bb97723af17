"""A string is spliced into the place that is meant: not into another member of that name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard.events import Chunk
from luthien_guard.wire.splice import patch_chunk
from luthien_guard.wire.sse import canonical


@pytest.mark.parametrize(
    "text",
    [
        '{"x":{"text":"public"},"delta":{"text" : "SECRET"}}',  # white space before the colon
        '{"x":{"text":"public"},"delta":{}}',  # not there yet
        '{"x":{"text":"public"},"delta":{"text":null}}',
    ],
)
def test_a_member_of_the_same_name_elsewhere_stays(text: str) -> None:
    value: Any = json.loads(text)
    chunk = Chunk("data", canonical(text.encode()), value)
    after = json.loads(patch_chunk(chunk, {("delta", "text"): "new"})[6:])
    assert after == {"x": {"text": "public"}, "delta": {"text": "new"}}
