"""A marker is found however it hides."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard.testing import WIRE_FORMATS, Script, find_leaks, render

MARKER = 'sécret "x"/y'


def nested(value: Any, levels: int) -> bytes:
    for _ in range(levels):
        value = json.dumps(value)
    return json.dumps({"a": [{"b": value}]}).encode()


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_json_in_json(levels: int) -> None:
    assert find_leaks(nested({"command": MARKER}, levels), MARKER)
    assert not find_leaks(nested({"command": "harmless"}, levels), MARKER)


@pytest.mark.parametrize("escaped", [MARKER, 's\\u00e9cret \\"x\\"\\/y'])
def test_escapes(escaped: str) -> None:
    quoted = escaped if "\\" in escaped else json.dumps(escaped)[1:-1]
    assert find_leaks(f'{{"text": "{quoted}"}}'.encode(), MARKER)


def test_keys_and_comments_count() -> None:
    assert find_leaks(json.dumps({MARKER: 1}).encode(), MARKER)
    assert find_leaks(f": {MARKER}\n\ndata: {{}}\n\n".encode(), MARKER)


@pytest.mark.parametrize("wire_format", WIRE_FORMATS)
@pytest.mark.parametrize("stream", [True, False])
def test_spread_over_the_events_of_a_stream(wire_format: str, stream: bool) -> None:
    for script in (Script().text(f"so {MARKER}."), Script().tool_call("bash", {"command": MARKER})):
        assert find_leaks(render(script.split(2), wire_format, stream=stream).body, MARKER)
        assert not find_leaks(render(script.split(2), wire_format, stream=stream).body, "another")
