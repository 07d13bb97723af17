"""One request and its response: the neutral view of a request, the outcome, the facts that identify an exchange."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeGuard

from luthien_guard.asked import askings, limits_of, references_of, tools_of

__all__ = [
    "ChatRequest",
    "Outcome",
    "OutcomeStatus",
    "RequestMetadata",
    "TextInRequest",
    "is_count",
    "new_call_id",
]


#: A random digit of which the first two bits say that it is one of RFC 9562's.
_VARIANT: Final = {f"{digit:x}": f"{8 | digit & 3:x}" for digit in range(16)}
_AT_ONCE: Final = 64
#: The random parts of the next ids. Threads may share it; a child of a fork makes its own.
_random: Final[list[str]] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.clear)


def new_call_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds and 12 of their fraction (6.2, method 3), so that ids sort by time
    also within a millisecond; the rest is random."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    began = milliseconds << 16 | 0x7000 | (rest << 12) // 1_000_000
    text = began.to_bytes(8, "big").hex()
    try:
        random = _random.pop()
    except IndexError:
        random = _more_random()
    return f"{text[:8]}-{text[8:12]}-{text[12:]}-{random}"


def _more_random() -> str:
    """One more. A call of the system for each id would take a third of its time."""
    digits = os.urandom(8 * _AT_ONCE).hex()
    parts = [digits[at : at + 16] for at in range(0, len(digits), 16)]
    first, *rest = [f"{_VARIANT[each[0]]}{each[1:4]}-{each[4:]}" for each in parts]
    _random.extend(rest)
    return first


class OutcomeStatus(str, Enum):
    """How an exchange ended; exactly one each."""

    SUCCESS = "success"
    BLOCKED = "blocked"
    UPSTREAM_ERROR = "upstream_error"
    POLICY_ERROR = "policy_error"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"  # the process died; said by the next one


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an exchange; `policy` and `reason` say who ended it and why, where somebody did."""

    status: OutcomeStatus
    policy: str | None = None
    reason: str | None = None


# Not frozen: every request pays for it.
@dataclass(slots=True)
class RequestMetadata:
    """Who asks, in a form that may leave the process. `timestamp` is Unix seconds."""

    call_id: str
    timestamp: float
    trace_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    api_key_hash: str | None = None
    endpoint: str = ""  # the path
    traceparent: str | None = None  # W3C, as it came; `trace_id` is part of it
    policy_set: str | None = None  # further policies for this caller, by name
    resumes: bool = False  # asks for what comes after a place in an answer that the provider keeps
    # The caller's credentials, which no record may hold.
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class TextInRequest:
    """One string of the request: where it stands in the raw JSON, whose it is, what it says."""

    path: tuple[str | int, ...]
    role: str
    text: str


#: The neutral names of parameters and how each wire format spells them; the first key is the one that is written where
#: the request has none.
_KEYS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "openai.chat": {
        "messages": ("messages",),
        "max_tokens": ("max_completion_tokens", "max_tokens"),
        "stop": ("stop",),
    },
    "anthropic.messages": {
        "messages": ("messages",),
        "max_tokens": ("max_tokens",),
        "stop": ("stop_sequences",),
    },
    "openai.responses": {
        "messages": ("input",),
        "max_tokens": ("max_output_tokens",),
        "stop": (),
    },
}
_PROMPT_KEYS = (
    *("system", "instructions", "litellm_system_prompt", "messages", "input", "prompt"),
    *("user_continue_message", "assistant_continue_message", "prompt_variables"),
    # how a provider is to sum up the conversation
    *("compaction", "context_management"),
    # what litellm puts around it for models without a template of their own
    *("roles", "initial_prompt_value", "final_prompt_value"),
    # what servers of open models write it from (vLLM, Cohere)
    *("documents", "chat_template", "chat_template_kwargs"),
    # Gemini's own, which stand over litellm's where an `extra_body` has them
    *("contents", "systemInstruction", "system_instruction"),
)
_SYSTEM_KEYS = (
    *("system", "instructions", "litellm_system_prompt", "compaction", "context_management"),
    *("systemInstruction", "system_instruction"),
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """The request, seen the same way in every wire format.

    `raw` is the parsed JSON as it came (do not change it: `replace` makes the changed copy). What this view does not
    model stays in `raw` and goes upstream untouched.
    """

    wire_format: str
    raw: Mapping[str, Any]

    @property
    def model(self) -> str:
        value = self.raw.get("model", "")
        return value if isinstance(value, str) else ""

    @property
    def stream(self) -> bool:
        return bool(self.raw.get("stream", False))

    @property
    def messages(self) -> list[Any]:
        """The conversation; a plain-string `input` (openai.responses) becomes one user message."""
        value = self.raw.get(self.spellings("messages")[0])
        if isinstance(value, str):
            return [{"role": "user", "content": value}]
        return value if isinstance(value, list) else []

    @property
    def tools(self) -> list[Any]:
        """Every tool, wherever the request hides it: `tools`, `input[].additional_tools`, blocks of messages that add some,
        namespaces, `mcp_servers`, fallbacks."""
        return [tool for _, asked in askings(self.raw) for tool in tools_of(asked)]

    @property
    def references(self) -> tuple[str, ...]:
        """What stands for a part of the conversation that the provider keeps, and that is therefore not in the request:
        `thread`, `previous_response_id`, `conversation`, `prompt`, `input` (of items that are named by their id),
        `messages` (of audio that is)."""
        return references_of(self.wire_format, self.raw)

    @property
    def max_tokens(self) -> int | None:
        """The largest that is asked for, where several are; what is no whole number from 1 names none."""
        return max((value for _, value in self.limits() if is_count(value)), default=None)

    @property
    def choices(self) -> int:
        """How many answers are asked for: `n` of openai.chat; one in every other wire format."""
        if self.wire_format != "openai.chat":
            return 1
        named = (asked.get("n") for _, asked in askings(self.raw))
        return max((value for value in named if is_count(value)), default=1)

    @property
    def usage(self) -> bool:
        """Whether a stream of openai.chat is to tell usage in a chunk of its own, which has no choices."""
        options = self.raw.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))

    def limits(self) -> Iterator[tuple[tuple[str | int, ...], Any]]:
        """(place, value) wherever it says how long an answer may be: in every spelling, also of single providers, and for
        every model."""
        return limits_of(self.raw)

    def replace(self, **changes: Any) -> ChatRequest:
        """A changed copy. Neutral names (`messages`, `max_tokens`, `stop`) are spelled as the wire format does, in
        every spelling that is there; any other name is a key of the raw JSON; `None` removes it."""
        raw = dict(self.raw)
        for name, value in changes.items():
            if name == "raw":
                raw = dict(value)
                continue
            for key in self.spellings(name):
                if value is None:
                    raw.pop(key, None)
                else:
                    raw[key] = value
        return ChatRequest(self.wire_format, raw)

    def texts(self) -> Iterator[TextInRequest]:
        """Every string of the prompt: system, instructions and messages of any role at any place, and those with which
        another model is asked."""
        for path, asked in askings(self.raw):
            for key in _PROMPT_KEYS:
                if key in asked:
                    yield from _strings(asked[key], (*path, key), _role_of_key(key))

    def spellings(self, name: str) -> tuple[str, ...]:
        """The keys by which this request names it (providers differ in which of two they heed), or the one to write.
        Raises ValueError where the wire format has none."""
        keys = _KEYS[self.wire_format].get(name, (name,))
        if not keys:
            raise ValueError(f"{self.wire_format} has no {name}")
        return tuple(key for key in keys if key in self.raw) or keys[:1]


def is_count(value: object) -> TypeGuard[int]:
    """Whether it is a whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _role_of_key(key: str) -> str:
    if key == "assistant_continue_message":
        return "assistant"
    return "system" if key in _SYSTEM_KEYS else "user"


def _strings(value: Any, path: tuple[str | int, ...], role: str) -> Iterator[TextInRequest]:
    """Walk without recursion: depth is bounded by the parser, but the stack should not depend on that."""
    todo: list[tuple[Any, tuple[str | int, ...], str]] = [(value, path, role)]
    while todo:
        value, path, role = todo.pop()
        if isinstance(value, str):
            yield TextInRequest(path, role, value)
        elif isinstance(value, list):
            todo.extend((item, (*path, at), role) for at, item in reversed(list(enumerate(value))))
        elif isinstance(value, dict):
            found = value.get("role")
            role = found if isinstance(found, str) else role
            todo.extend((item, (*path, key), role) for key, item in reversed(list(value.items())))
