"""Bytes as the clients of each provider read them: written apart from the library's own codecs, to check them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from luthien_guard.testing.reading import chat, messages, responses
from luthien_guard.testing.transcript import Frame, Transcript, frames_of, loads

__all__ = ["read"]

_STREAMS: Final[Mapping[str, Callable[[list[Frame]], Transcript]]] = {
    "openai.chat": chat.read_stream,
    "anthropic.messages": messages.read_stream,
    "openai.responses": responses.read_stream,
}
_BODIES: Final[Mapping[str, Callable[[Any], Transcript]]] = {
    "openai.chat": chat.read_body,
    "anthropic.messages": messages.read_body,
    "openai.responses": responses.read_body,
}


def read(body: bytes, wire_format: str, *, stream: bool) -> Transcript:
    """What a client of `wire_format` takes from `body`. Whatever the bytes are: what is wrong is in `problems`. Raises
    KeyError for a wire format that there is none of."""
    of_stream, of_body = _STREAMS[wire_format], _BODIES[wire_format]
    try:
        return _of_stream(body, of_stream) if stream else _of_body(body, of_body)
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        return Transcript(problems=[f"clients cannot read it: {error!r}"])


def _of_stream(body: bytes, reader: Callable[[list[Frame]], Transcript]) -> Transcript:
    frames, problems = frames_of(body)
    transcript = reader(frames)
    transcript.problems[:0] = problems
    return transcript


def _of_body(body: bytes, reader: Callable[[Any], Transcript]) -> Transcript:
    try:
        value = loads(body.decode())
    except ValueError:
        return Transcript(problems=["the body is not JSON"])
    if not isinstance(value, dict):
        return Transcript(problems=["the body is not a JSON object"])
    error = value.get("error")
    if isinstance(error, dict):
        return Transcript(error=error, complete=True)
    return reader(value)
