"""What a rendered script consists of, and what the three renderers share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from luthien_guard.testing.script import (
    Disconnect,
    Failure,
    Finish,
    FinishReason,
    Leave,
    Pause,
    Raw,
    Say,
    Script,
    Stall,
    Step,
    Usage,
    UseTool,
)

__all__ = [
    "CREATED",
    "Part",
    "Rendering",
    "broken_body",
    "dumps",
    "failed",
    "finish_of",
    "sse",
    "stream_of",
    "usage_of",
    "with_end",
]

#: Unix seconds; fixed, so that a script always renders to the same bytes.
CREATED = 1_760_000_000

Part: TypeAlias = bytes | Pause


@dataclass(frozen=True, slots=True)
class Rendering:
    """A response: `parts` are its frames (one when it is not streamed) with what happens between them."""

    status: int
    stream: bool
    parts: tuple[Part, ...]

    @property
    def body(self) -> bytes:
        """All bytes, whatever happens between them."""
        return b"".join(part for part in self.parts if isinstance(part, bytes))


def dumps(value: Any) -> str:
    """As the providers do: no spaces, text as it is."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def sse(data: Any, event: str | None = None) -> bytes:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {data if isinstance(data, str) else dumps(data)}\n\n".encode()


def with_end(script: Script) -> Iterator[Step]:
    """The steps, and the ending that the script left out. A script that breaks off ends where it breaks."""
    steps = script.cut()
    for step in steps:
        yield step
        if isinstance(step, (Disconnect, Leave, Failure)):
            return
    choices = {step.choice for step in steps if isinstance(step, (Say, UseTool))} or {0}
    finished = {step.choice for step in steps if isinstance(step, Finish)}
    for choice in sorted(choices - finished):
        yield Finish(finish_of(steps, choice), choice)
    if not any(isinstance(step, Usage) for step in steps):
        yield usage_of(steps)


def finish_of(steps: Iterable[Step], choice: int = 0) -> FinishReason:
    """The reason that the script gives for this choice, or the one that a model would."""
    steps = tuple(steps)
    said: list[FinishReason] = [
        step.reason for step in steps if isinstance(step, Finish) and step.choice == choice
    ]
    if said:
        return said[-1]
    calls = any(isinstance(step, UseTool) and step.choice == choice for step in steps)
    return "tool_calls" if calls else "stop"


def usage_of(steps: Iterable[Step]) -> Usage:
    """What the script says, or one token for each delta."""
    steps = tuple(steps)
    said = [step for step in steps if isinstance(step, Usage)]
    output = sum(
        len(step.fragments) if isinstance(step, UseTool) else isinstance(step, Say) for step in steps
    )
    return said[-1] if said else Usage(12, output)


def stream_of(
    script: Script, frames: Callable[[Step], Iterable[bytes]], end: Callable[[], Iterable[bytes]]
) -> Rendering:
    """A streamed rendering: each step's frames, pauses where they stand, then the end unless it broke off."""
    parts: list[Part] = []
    for step in with_end(script):
        if isinstance(step, (Stall, Disconnect, Leave)):
            parts.append(step)
        elif isinstance(step, Raw):
            parts.append(step.data)
        else:
            parts.extend(frames(step))
        if isinstance(step, (Disconnect, Leave, Failure)):
            return Rendering(200, True, tuple(parts))
    return Rendering(200, True, (*parts, *end()))


def failed(script: Script, body: Callable[[Failure], Any]) -> Rendering | None:
    """The HTTP error that the script begins with, or None."""
    first = script.steps[0] if script.steps else None
    if isinstance(first, Failure) and first.status is not None:
        return Rendering(first.status, False, (dumps(body(first)).encode(),))
    return None


def broken_body(script: Script, value: Any, failure: Callable[[Failure], Any]) -> Rendering:
    """A body that is not streamed, with what happens to it: raw bytes instead, a failure instead, a cut inside."""
    steps = tuple(with_end(script))
    raw = b"".join(step.data for step in steps if isinstance(step, Raw))
    body = raw or dumps(value).encode()
    error = next((step for step in steps if isinstance(step, Failure)), None)
    if error is not None:
        return Rendering(500, False, (dumps(failure(error)).encode(),))
    pauses = [step for step in steps if isinstance(step, (Stall, Disconnect, Leave))]
    half = len(body) // 2
    if not pauses:
        return Rendering(200, False, (body,))
    broken = isinstance(pauses[-1], (Disconnect, Leave))
    return Rendering(200, False, (body[:half], *pauses, *(() if broken else (body[half:],))))
