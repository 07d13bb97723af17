"""What a client makes of the bytes that it got: the words, the calls, the end, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Called", "Frame", "Transcript", "frames_of", "loads"]

_DIGITS: Final = 4300  # that Python makes a whole number of


def loads(text: str) -> Any:
    """JSON as most clients read it: a number may have any length. Raises ValueError."""
    try:
        return json.loads(text)
    except ValueError:
        return _ANY_LENGTH.decode(text)


def _number(text: str) -> float:
    return int(text) if len(text) <= _DIGITS else float(text)


_ANY_LENGTH: Final = json.JSONDecoder(parse_int=_number)


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call as a client would run it."""

    id: str
    name: str
    arguments: str

    @property
    def parsed(self) -> Any:
        """The arguments as JSON; raises ValueError where they are not."""
        return loads(self.arguments)


@dataclass(slots=True)
class Transcript:
    """An answer as read by a client, of any wire format. Texts are joined over blocks, in order, for choice 0;
    `choices` has all of them."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[Called, ...] = ()
    finish: tuple[str, ...] = ()
    usage: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    #: True when the answer has its terminal event, or is a whole body.
    complete: bool = False
    #: Everything that deltas said so far, of any channel or call, also of items that are not done.
    heard: str = ""
    #: Text of the channel content, by choice.
    choices: dict[int, str] = field(default_factory=dict[int, str])
    #: How it breaks the grammar of its wire format.
    problems: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Frame:
    """One SSE event as a client sees it; `data` is parsed, or the string where it is not JSON."""

    event: str | None
    data: Any


def frames_of(body: bytes) -> tuple[list[Frame], list[str]]:
    """The events of a stream by WHATWG's rules, and what is wrong with it. Comments are skipped."""
    problems: list[str] = []
    found: list[Frame] = []
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return [], ["the stream is not UTF-8"]
    blocks = text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n")
    if blocks.pop().strip():
        problems.append("the last event is not ended by an empty line")
    for block in blocks:
        fields = [line.split(":", 1) for line in block.split("\n") if line and not line.startswith(":")]
        data = [value[1].removeprefix(" ") for value in fields if value[0] == "data" and len(value) == 2]
        names = [value[1].strip() for value in fields if value[0] == "event" and len(value) == 2]
        if data:
            found.append(Frame(names[-1] if names else None, _parsed("\n".join(data), problems)))
    return found, problems


def _parsed(data: str, problems: list[str]) -> Any:
    if data.strip() == "[DONE]":
        return "[DONE]"
    try:
        return loads(data)
    except ValueError:
        problems.append(f"an event's data is not JSON: {data[:80]!r}")
        return data
