"""A script is rendered as the providers would send it, and reads the same in every format, streamed or not."""

from __future__ import annotations

import json
from typing import Any

import anthropic.types
import openai.types.chat
import openai.types.responses
import pytest
from hypothesis import given
from pydantic import TypeAdapter

from luthien_guard.testing import WIRE_FORMATS, Script, read, render, strategies
from luthien_guard.testing.catalogue import BROKEN, ORDINARY
from luthien_guard.testing.transcript import frames_of

EVENTS: dict[str, TypeAdapter[Any]] = {
    "openai.chat": TypeAdapter(openai.types.chat.ChatCompletionChunk),
    "anthropic.messages": TypeAdapter(anthropic.types.RawMessageStreamEvent),
    "openai.responses": TypeAdapter(openai.types.responses.ResponseStreamEvent),
}
BODIES: dict[str, TypeAdapter[Any]] = {
    "openai.chat": TypeAdapter(openai.types.chat.ChatCompletion),
    "anthropic.messages": TypeAdapter(anthropic.types.Message),
    "openai.responses": TypeAdapter(openai.types.responses.Response),
}
#: The SDKs' types for what they do not know are loose: those scripts show nothing here.
KNOWN = {name: script for name, script in ORDINARY.items() if "unknown" not in name}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("wire_format", WIRE_FORMATS)
def test_the_official_types_accept_what_is_rendered(name: str, wire_format: str) -> None:
    script = KNOWN[name]
    if wire_format not in script.wire_formats:
        with pytest.raises(ValueError, match="cannot say"):
            render(script, wire_format, stream=True)
        return
    BODIES[wire_format].validate_python(
        json.loads(render(script, wire_format, stream=False).body), strict=False
    )
    frames, problems = frames_of(render(script.split(4), wire_format, stream=True).body)
    assert not problems
    for frame in frames:
        if frame.data != "[DONE]" and frame.event != "ping":
            EVENTS[wire_format].validate_python(frame.data)


@given(strategies.scripts(), strategies.wire_formats)
def test_what_is_scripted_is_what_is_read(script: Script, wire_format: str) -> None:
    streamed = read(render(script, wire_format, stream=True).body, wire_format, stream=True)
    whole = read(render(script, wire_format, stream=False).body, wire_format, stream=False)
    assert streamed.problems == whole.problems == []
    assert streamed.complete
    assert (streamed.text, streamed.reasoning) == (whole.text, whole.reasoning)
    assert [(call.name, call.parsed) for call in streamed.tool_calls] == [
        (call.name, call.parsed) for call in whole.tool_calls
    ]
    assert streamed.finish == whole.finish


@pytest.mark.parametrize("wire_format", WIRE_FORMATS)
def test_an_upstream_that_breaks_off_has_no_end(wire_format: str) -> None:
    for name in ("a cut inside a text", "a client that leaves", "an error in the middle"):
        answer = read(render(BROKEN[name], wire_format, stream=True).body, wire_format, stream=True)
        assert not answer.complete
    assert answer.error is not None


@pytest.mark.parametrize("wire_format", WIRE_FORMATS)
def test_an_http_error_is_a_body_with_its_status(wire_format: str) -> None:
    rendering = render(Script().error(429, message="slow down"), wire_format, stream=True)
    answer = read(rendering.body, wire_format, stream=False)
    assert (rendering.status, rendering.stream) == (429, False)
    assert answer.error is not None
    assert answer.error["message"] == "slow down"


def test_a_status_comes_first_or_not_at_all() -> None:
    with pytest.raises(ValueError, match="first step"):
        Script().text("Hello").error(500)


@pytest.mark.parametrize("stream", [True, False])
def test_raw_bytes_are_sent_as_they_are(stream: bool) -> None:
    body = render(Script().raw(b"data: nonsense\n\n").disconnect(), "openai.chat", stream=stream).body
    assert b"data: nonsense\n\n".startswith(body)


def test_split_cuts_deltas_and_not_words() -> None:
    script = Script().text("abcdef").tool_call("bash", '{"a": 1}').split(4)
    assert [step.text for step in script.cut() if hasattr(step, "text")] == ["abcd", "ef"]
    assert [step.fragments for step in script.cut() if hasattr(step, "fragments")] == [('{"a"', ": 1}")]
