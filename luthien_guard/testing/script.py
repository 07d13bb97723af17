"""A scripted upstream: what a model says, written once, rendered as any provider would send it.

    Script().text("Let me look. ").tool_call("bash", {"command": "ls"}).usage(12, 7)

Every method returns a new script with one more step, so scripts can be shared and extended.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

__all__ = [
    "WIRE_FORMATS",
    "Disconnect",
    "Failure",
    "Finish",
    "FinishReason",
    "Leave",
    "Pause",
    "Raw",
    "Say",
    "Script",
    "Stall",
    "Step",
    "Unknown",
    "Usage",
    "UseTool",
]

WIRE_FORMATS: Final = ("openai.chat", "anthropic.messages", "openai.responses")

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal"]
SaidOn = Literal["content", "reasoning", "refusal"]


@dataclass(frozen=True, slots=True)
class Say:
    """One delta of text. Deltas of one channel and choice that follow each other make one block."""

    text: str
    channel: SaidOn = "content"
    choice: int = 0
    signature: str = ""


@dataclass(frozen=True, slots=True)
class UseTool:
    """A call of a client's tool; `fragments` are its arguments as they stream."""

    id: str
    name: str
    fragments: tuple[str, ...]
    choice: int = 0

    @property
    def arguments(self) -> str:
        return "".join(self.fragments)


@dataclass(frozen=True, slots=True)
class Unknown:
    """`text` in a place that the wire format does not model."""

    text: str
    name: str = "x_future"


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts."""

    input: int
    output: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the answer ends, in the words of openai.chat; each wire format spells it its own way."""

    reason: FinishReason
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Stall:
    """Silence for so many seconds of the guard's clock."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Upstream goes away without an end."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The client goes away."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error: with a status instead of an answer, without one in the middle of it."""

    status: int | None
    message: str
    code: str


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that are sent as they are."""

    data: bytes


#: Steps that say nothing but happen between the bytes.
Pause: TypeAlias = Stall | Disconnect | Leave
Step: TypeAlias = Say | UseTool | Unknown | Usage | Finish | Failure | Raw | Pause


@dataclass(frozen=True, slots=True)
class Script:
    """What an upstream does, step by step. An ending that is not written down is made up: finish and usage."""

    steps: tuple[Step, ...] = ()
    model: str = "scripted-model"
    _every: int = field(default=0, kw_only=True)

    def text(self, text: str, *, choice: int = 0) -> Script:
        """One delta of the answer. `choice` other than 0 exists in openai.chat only."""
        return self._then(Say(text, choice=choice))

    def reasoning(self, text: str, *, signature: str = "c2lnbmF0dXJl") -> Script:
        """One delta of thinking: `reasoning_content`, a thinking block (signed), a reasoning summary."""
        return self._then(Say(text, "reasoning", signature=signature))

    def refusal(self, text: str) -> Script:
        """The model itself declines: a `refusal` text; anthropic.messages has none and says it as content."""
        return self._then(Say(text, "refusal"))

    def tool_call(
        self, name: str, arguments: Any = None, *, id: str | None = None, choice: int = 0
    ) -> Script:
        """A tool call. `arguments` is a string as the model writes it, or any value, which is dumped as JSON."""
        text = arguments if isinstance(arguments, str) else json.dumps({} if arguments is None else arguments)
        number = sum(isinstance(step, UseTool) for step in self.steps)
        return self._then(UseTool(id or f"call_scripted{number:04}", name, (text,), choice))

    def unknown(self, text: str, *, name: str = "x_future") -> Script:
        """`text` in a field or an event that no wire format has yet."""
        return self._then(Unknown(text, name))

    def usage(self, input: int, output: int) -> Script:
        """Token counts."""
        return self._then(Usage(input, output))

    def finish(self, reason: FinishReason = "stop", *, choice: int = 0) -> Script:
        """Why the answer ends."""
        return self._then(Finish(reason, choice))

    def stall(self, seconds: float = math.inf) -> Script:
        """Silence for so many seconds of the guard's clock: longer than `limits.idle_timeout` is a time-out."""
        return self._then(Stall(seconds))

    def disconnect(self) -> Script:
        """Upstream is cut here. A body that is not streamed is cut in its middle."""
        return self._then(Disconnect())

    def client_leaves(self) -> Script:
        """The client goes away here: the exchange is cancelled."""
        return self._then(Leave())

    def error(
        self, status: int | None = None, *, message: str = "scripted failure", code: str = "server_error"
    ) -> Script:
        """`status`: an HTTP error instead of an answer. Without it: an error in the middle of the stream (of a body
        that is not streamed: status 500). Raises ValueError for a status after something was said."""
        if status is not None and self.steps:
            raise ValueError("an HTTP status comes before everything else: make it the first step")
        return self._then(Failure(status, message, code))

    def raw(self, data: bytes) -> Script:
        """Bytes as they are. Of a body that is not streamed they are the whole."""
        return self._then(Raw(data))

    def split(self, every: int) -> Script:
        """Deltas of at most `every` characters, for everything that is said before and after this step."""
        if every < 1:
            raise ValueError(f"every is {every}: at least one character")
        return replace(self, _every=every)

    def cut(self) -> tuple[Step, ...]:
        """The steps, with deltas as short as `split` wants them."""
        if not self._every:
            return self.steps
        return tuple(piece for step in self.steps for piece in _shorter(step, self._every))

    @property
    def wire_formats(self) -> tuple[str, ...]:
        """The wire formats that can say this: several choices exist in openai.chat only."""
        return WIRE_FORMATS[:1] if self.choices > 1 else WIRE_FORMATS

    @property
    def choices(self) -> int:
        """How many answers a request must ask for to get all of it."""
        return 1 + max((getattr(step, "choice", 0) for step in self.steps), default=0)

    def _then(self, step: Step) -> Script:
        return replace(self, steps=(*self.steps, step))


def _shorter(step: Step, every: int) -> list[Step]:
    if isinstance(step, Say):
        return [replace(step, text=part) for part in _parts(step.text, every)]
    if isinstance(step, UseTool):
        return [replace(step, fragments=tuple(_parts(step.arguments, every)))]
    return [step]


def _parts(text: str, every: int) -> list[str]:
    return [text[at : at + every] for at in range(0, len(text), every)] or [text]
