"""A credential in twenty places of an exchange: it is in no span, no metric, no event, no log line, with content and
without. Ordinary text in the same places is in none of them without."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from luthien_guard import ContentChunk, Policy, PolicyContext, ToolCall, hookimpl
from luthien_guard.policy import Abort, Block
from luthien_guard.sinks.opentelemetry import Capture, LogCorrelation
from tests.telemetry.rig import Collected, answer, asking, served, stream

pytestmark = pytest.mark.anyio

SECRET = "sk-proj-c4n4ry0123456789abcdefghijkl"  # has the shape of a key
BEARER = "c4n4ry bearer without any shape".replace(" ", ".")  # is known by where it stood
WORDS = "the c4n4ry sings"
JSON_TYPE = (b"content-type", b"application/json")

REQUESTS: dict[str, Any] = {
    "prompt": asking,
    "system": lambda word: asking(messages=[{"role": "system", "content": word}]),
    "model": lambda word: asking(model=word),
    "user": lambda word: asking(user=word),
    "metadata": lambda word: asking(metadata={"session_id": word, word: word}),
    "tool": lambda word: asking(tools=[{"type": "function", "function": {"name": "f", "description": word}}]),
    "stop": lambda word: asking(stop=[word]),
    "temperature": lambda word: asking(temperature=word),
    "unknown": lambda word: asking(brand_new={"deep": [word]}),
    "broken": lambda word: asking(word)[:-1] + b',"model":"twice"}',
}
RESPONSES: dict[str, Any] = {
    "text": lambda word: [answer(word)],
    "model": lambda word: [answer(model=word)],
    "id": lambda word: [answer(id=word)],
    "usage": lambda word: [answer(usage={"prompt_tokens": word, word: 1})],
    "unknown": lambda word: [answer(brand_new={"deep": [word]})],
    "finish": lambda word: [answer().replace(b'"stop"', json.dumps(word).encode())],
    "stream": lambda word: stream("one ", word),
    "comment": lambda word: [*stream("one")[:1], f": {word}\n\n".encode(), *stream("one")[1:]],
    "garbage": lambda word: [f"<html>{word}</html>".encode()],
}
ERRORS = ("block", "raise", "record", "upstream")
HEADERS = ("authorization", "x-api-key", "x-session-id", "cookie", "traceparent", "x-other")


class Quoting(Policy):
    """Quotes what it was given wherever a policy can."""

    def __init__(self, word: str = "", how: str = "") -> None:
        self.word, self.how = word, how

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> Block | None:
        if self.how == "record":
            ctx.record(f"said {self.word}", words={self.word: self.word})
        if self.how == "raise":
            raise KeyError(self.word)
        return Block(f"it says {self.word}", message="no") if self.how == "block" else None

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Abort | None:
        return None


async def leaks(
    caplog: pytest.LogCaptureFixture,
    word: str,
    *pieces: bytes,
    capture: Capture,
    look_for: str = "c4n4ry",
    **options: Any,
) -> bool:
    caplog.handler.addFilter(LogCorrelation())
    caplog.set_level(logging.DEBUG, "luthien_guard")
    collected = Collected(capture=capture)
    await served(collected, *pieces, **{"policies": [Quoting(word)], **options})
    assert collected.spans, "there is something to look through"
    return look_for in collected.everything() or look_for in caplog.text


@pytest.mark.parametrize("place", REQUESTS)
async def test_of_the_request(caplog: pytest.LogCaptureFixture, place: str) -> None:
    make = REQUESTS[place]
    assert not await leaks(caplog, WORDS, answer(), capture=Capture(), ask=make(WORDS))
    assert not await leaks(caplog, SECRET, answer(), capture=Capture(True, True), ask=make(SECRET))


@pytest.mark.parametrize("place", RESPONSES)
async def test_of_the_response(caplog: pytest.LogCaptureFixture, place: str) -> None:
    make = RESPONSES[place]
    assert not await leaks(caplog, WORDS, *make(WORDS), capture=Capture())
    assert not await leaks(caplog, SECRET, *make(SECRET), capture=Capture(True, True))


@pytest.mark.parametrize("place", ERRORS)
async def test_of_errors_and_reasons(caplog: pytest.LogCaptureFixture, place: str) -> None:
    for word, capture in ((WORDS, Capture()), (SECRET, Capture(True, True))):
        failed = json.dumps({"error": {"message": word, "type": word, "code": word}}).encode()
        said, status = (failed, 401) if place == "upstream" else (answer(), 200)
        policies = [Quoting(word, place)]
        assert not await leaks(caplog, word, said, capture=capture, policies=policies, status=status)


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("word", [SECRET, WORDS])
async def test_of_headers(caplog: pytest.LogCaptureFixture, name: str, word: str) -> None:
    headers = [JSON_TYPE, (name.encode(), word.encode())]
    assert not await leaks(caplog, word, answer(), capture=Capture(), headers=headers)


async def test_of_a_key_that_the_upstream_repeats(caplog: pytest.LogCaptureFixture) -> None:
    """It has no shape: it is known because the caller sent it."""
    headers = [JSON_TYPE, (b"authorization", b"Bearer " + BEARER.encode())]
    options = {"capture": Capture(True, True), "headers": headers, "policies": [Quoting(BEARER, "block")]}
    assert not await leaks(caplog, BEARER, answer(f"your key is {BEARER}"), look_for=BEARER, **options)


async def test_the_words_are_found_where_they_are_let_out(caplog: pytest.LogCaptureFixture) -> None:
    """So the tests above can fail."""
    assert await leaks(caplog, WORDS, answer(WORDS), capture=Capture(span=True))
    assert await leaks(caplog, WORDS, answer(WORDS), capture=Capture(event=True))
