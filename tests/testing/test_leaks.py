"""A marker is found however it hides."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard.testing import WIRE_FORMATS, Runs, Script, find_leaks, read, render, run

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


ESCAPED = "\\u0073ecret"


@pytest.mark.parametrize(
    "arguments",
    [
        f'{{"n": {"1" * 4301}, "a": "{ESCAPED}"}}',
        f'{{"a": "{ESCAPED}',
        f'{{"a": "{ESCAPED}\n"}}',
        f'{{"a": "{ESCAPED}"}} x',
        f"free text, {ESCAPED}",
        json.dumps({"a": f'{{"a": "{ESCAPED}'}),
    ],
    ids=["a long number", "no end", "a line's end", "something behind it", "no JSON", "in JSON"],
)
async def test_arguments_that_python_does_not_read(arguments: str) -> None:
    runs = await run("noop", Script().tool_call("bash", arguments).split(9), cuts="whole")
    for each in runs:
        with pytest.raises(AssertionError, match="leaked in"):
            Runs([each]).no_leak("secret")
        assert not find_leaks(each.body, "another")


@pytest.mark.parametrize(
    "body", [f'{{"n": {"1" * 5000}, "text": "{ESCAPED}"}}', f'{{"text": "{ESCAPED}", "text": 1}}']
)
def test_bodies_that_python_does_not_read(body: str) -> None:
    assert find_leaks(body.encode(), "secret")
    assert find_leaks(f"data: {body}\n\n".encode(), "secret")


def test_a_character_of_two_escapes() -> None:
    assert find_leaks(b'{"a": "{\\"b\\": \\"\\\\ud83c\\\\udfff"}', "\U0001f3ff")


def test_what_a_client_puts_together() -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "the sec"}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ret"}}
    body = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in (start, delta)).encode()
    assert find_leaks(body, "secret") == ["what a client of anthropic.messages reads"]
    assert find_leaks(body, "secret", "anthropic.messages")
    assert not find_leaks(body, "another")


def test_numbers_of_any_length_are_read() -> None:
    body = json.dumps({"choices": [{"message": {"content": "so"}, "finish_reason": "stop", "n": 1}]})
    answer = read(body.replace("1", "1" * 5000).encode(), "openai.chat", stream=False)
    assert (answer.text, answer.problems) == ("so", [])


def test_keys_and_comments_count() -> None:
    assert find_leaks(json.dumps({MARKER: 1}).encode(), MARKER)
    assert find_leaks(f": {MARKER}\n\ndata: {{}}\n\n".encode(), MARKER)


@pytest.mark.parametrize("wire_format", WIRE_FORMATS)
@pytest.mark.parametrize("stream", [True, False])
def test_spread_over_the_events_of_a_stream(wire_format: str, stream: bool) -> None:
    for script in (Script().text(f"so {MARKER}."), Script().tool_call("bash", {"command": MARKER})):
        assert find_leaks(render(script.split(2), wire_format, stream=stream).body, MARKER)
        assert not find_leaks(render(script.split(2), wire_format, stream=stream).body, "another")
