"""The vocabulary: what policies see and what the wire formats speak.

Every event is frozen; `event.replace(**changes)` makes the changed copy that a policy returns. Field names follow the
providers' own (`id`, `name`, `arguments`, `choice`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

from luthien_guard.unique_keys import unique_keys

__all__ = [
    "CHANNELS",
    "Channel",
    "Chunk",
    "ChunkKind",
    "ContentChunk",
    "ContentCompleted",
    "ResponseCompleted",
    "ResponseFailed",
    "ResponseStarted",
    "ToolCall",
    "ToolCallChunk",
    "ToolKind",
    "UnknownChunk",
]

Channel = Literal["content", "reasoning", "refusal", "audio_transcript", "citation", "other"]
CHANNELS: Final[tuple[Channel, ...]] = (
    "content",
    "reasoning",
    "refusal",
    "audio_transcript",
    "citation",
    "other",
)

ToolKind = Literal[
    "function",  # the client runs it: tools[].type == "function", Anthropic tool_use
    "legacy",  # openai.chat `function_call`, before `tool_calls`
    "custom",  # free-text input, openai `custom`
    "server",  # the provider runs it: web search, code execution, file search
    "mcp",
    "code_interpreter",
    "shell",  # shell_call, local_shell_call, apply_patch_call
    "computer",
    "unknown",  # an item that looks like a call (`*_call`) and that no codec models
]

ChunkKind = Literal["data", "done", "comment", "body", "unknown"]


class _Replace:
    """`event.replace(text="...")`: the same event with some fields changed."""

    __slots__ = ()

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def _open(frozen: type[Any]) -> Any:
    """The same dataclass, not frozen. What is made of it becomes an event by a change of its class: the constructor
    of a frozen one takes three times as long."""
    fields = [(each.name, Any, field(default=each.default)) for each in dataclasses.fields(frozen)]
    return dataclasses.make_dataclass(f"_Open{frozen.__name__}", fields, bases=(_Replace,), slots=True)


@dataclass(frozen=True, slots=True)
class Chunk(_Replace):
    """One wire unit: an SSE frame, or a whole body that was not streamed.

    `raw` is what leaves if nobody changes the chunk; `data` its parsed JSON (None for comments, `[DONE]` and bytes
    that could not be parsed). To change a chunk return `chunk.replace(data={...})`: it is written anew.
    """

    kind: ChunkKind
    raw: bytes
    data: Any = None
    event: str | None = None  # the SSE event name
    ignored: tuple[str, ...] = ()  # comments and lines that SSE readers ignore: text all the same
    reason: str | None = None  # why the chunk is `unknown`


_OpenChunk = _open(Chunk)


def frame_chunk(raw: bytes, data: Any) -> Chunk:
    """`Chunk("data", raw, data)`, for every frame."""
    made = _OpenChunk("data", raw, data)
    made.__class__ = Chunk
    return made  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class ContentChunk(_Replace):
    """A piece of text of one block.

    A policy with `lookahead = n` sees a window instead: the text that is still held and the newest delta; `final` is
    true when no more text of this block comes. `edits` are (start, end, replacement) spans over `text`.
    """

    text: str
    channel: Channel = "content"
    choice: int = 0
    index: int = 0  # place of the block among the blocks of its choice
    final: bool = False
    writable: bool = True
    edits: tuple[tuple[int, int, str], ...] = ()

    def replace(self, **changes: Any) -> ContentChunk:
        """The same chunk with some fields changed."""
        if len(changes) == 1 and "text" in changes:  # what nearly every policy does, and for every token
            return content_chunk(
                changes["text"], self.channel, self.choice, self.index, self.final, self.writable
            )
        return dataclasses.replace(self, **changes)

    def edit(self, *spans: tuple[int, int, str]) -> ContentChunk:
        """The same chunk with the spans (start, end, replacement), ascending and disjoint, put in place."""
        return self.replace(edits=tuple(spans))


_OpenContentChunk = _open(ContentChunk)


def content_chunk(
    text: str, channel: Channel, choice: int, index: int, final: bool, writable: bool
) -> ContentChunk:
    """`ContentChunk(...)`, for every token."""
    made = _OpenContentChunk(text, channel, choice, index, final, writable)
    made.__class__ = ContentChunk
    return made  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class ToolCallChunk(_Replace):
    """A fragment of a tool call's arguments, as it streams."""

    text: str
    id: str = ""
    name: str = ""
    kind: ToolKind = "function"
    choice: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class UnknownChunk(_Replace):
    """A chunk of a kind that the wire format does not know, or bytes that it could not read.

    `inspectable` chunks parsed: their strings were shown to the text policies on the channel `other` and they pass
    unless somebody objects. Others are blocked while any policy enforces.
    """

    chunk: Chunk
    reason: str
    inspectable: bool = True


@dataclass(frozen=True, slots=True)
class ContentCompleted(_Replace):
    """A whole block of text."""

    text: str
    channel: Channel = "content"
    choice: int = 0
    index: int = 0
    writable: bool = True


@dataclass(frozen=True, slots=True)
class ToolCall(_Replace):
    """A whole tool call. `arguments` is the string as it was sent: JSON for most kinds, free text for `custom`."""

    id: str
    name: str
    arguments: str
    kind: ToolKind = "function"
    choice: int = 0
    index: int = 0
    complete: bool = True  # False when the stream ended inside the call

    @property
    def parsed(self) -> Any:
        """The arguments as JSON, or None where they are not JSON that every parser reads the same way."""
        try:
            value = json.loads(
                self.arguments,
                object_pairs_hook=unique_keys,
                parse_constant=_not_json,
                parse_float=_finite,
            )
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
            return value
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class ResponseStarted(_Replace):
    """What is known before the first text: status and headers' facts, model and id."""

    status: int = 200
    model: str = ""
    id: str = ""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class ResponseCompleted(_Replace):
    """The assembled response as it is about to leave (or left)."""

    status: int = 200
    model: str = ""
    id: str = ""
    content: tuple[ContentCompleted, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reasons: tuple[str, ...] = ()
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def text(self) -> str:
        """The text of the channel `content`, all blocks."""
        return "".join(each.text for each in self.content if each.channel == "content")


@dataclass(frozen=True, slots=True)
class ResponseFailed(_Replace):
    """The upstream failed: an error status, an error body, a mid-stream error, a cut."""

    message: str
    status: int | None = None
    code: str | None = None


def _not_json(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number out of range")
    return value
