"""One request and its response: the neutral view of a request, the outcome, the facts that identify an exchange."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeGuard

__all__ = [
    "ChatRequest",
    "Outcome",
    "OutcomeStatus",
    "RequestMetadata",
    "TextInRequest",
    "is_count",
    "new_call_id",
]


def new_call_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds and 12 of their fraction (6.2, method 3), so that ids sort by time
    also within a millisecond; the rest is random."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    value = milliseconds << 80 | 7 << 76 | (rest << 12) // 1_000_000 << 64 | 2 << 62
    text = f"{value | int.from_bytes(os.urandom(8), 'big') >> 2:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


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


@dataclass(frozen=True, slots=True)
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
#: Keys of a request that stand for what the provider keeps and the request does not hold.
_KEPT: Final[Mapping[str, tuple[str, ...]]] = {
    "openai.chat": (),
    "anthropic.messages": ("thread",),
    "openai.responses": ("previous_response_id", "conversation", "prompt"),
}
_PROMPT_KEYS = (
    *("system", "instructions", "litellm_system_prompt", "messages", "input", "prompt"),
    *("user_continue_message", "assistant_continue_message", "prompt_variables"),
)
#: Where litellm's callers name further models, and where in each of them a request stands.
_OTHERS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "fallbacks": ((), ("extra_body",)),
    "model_list": (("litellm_params",), ("litellm_params", "extra_body")),
}
_SYSTEM_KEYS = ("system", "instructions", "litellm_system_prompt")


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
        """Every tool, wherever the request hides it: `tools`, `input[].additional_tools`, namespaces, fallbacks."""
        return [tool for _, asked in _askings(self.raw) for tool in _tools(asked)]

    @property
    def references(self) -> tuple[str, ...]:
        """What stands for a part of the conversation that the provider keeps, and that is therefore not in the request:
        `thread`, `previous_response_id`, `conversation`, `prompt`, `input` (of items that are named by their id)."""
        found = [key for key in _KEPT[self.wire_format] if _is_kept(self.raw.get(key))]
        items = self.raw.get("input") if self.wire_format == "openai.responses" else None
        if isinstance(items, list) and any(map(_names_item, items)):
            found.append("input")
        return tuple(found)

    @property
    def max_tokens(self) -> int | None:
        """The largest that is asked for, where two spellings are; what is no whole number from 1 names none."""
        values = [self.raw.get(key) for key in self.spellings("max_tokens")]
        return max((value for value in values if is_count(value)), default=None)

    @property
    def choices(self) -> int:
        """How many answers are asked for: `n` of openai.chat; one in every other wire format."""
        value = self.raw.get("n") if self.wire_format == "openai.chat" else None
        return value if is_count(value) else 1

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
        litellm asks another model."""
        for path, asked in _askings(self.raw):
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


def _is_kept(value: Any) -> bool:
    """A thread that only begins is all in the request."""
    return value is not None and value != {"type": "create"}


def _names_item(item: Any) -> bool:
    """An item of `input` without a type is a message if it has a role, and a reference otherwise."""
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "role" not in item)


def _role_of_key(key: str) -> str:
    if key == "assistant_continue_message":
        return "assistant"
    return "system" if key in _SYSTEM_KEYS else "user"


def _askings(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """The request, and what stands for parts of it where litellm asks another model; with its place."""
    yield (), raw
    for key, paths in _OTHERS.items():
        given = raw.get(key)
        for at, each in enumerate(given if isinstance(given, list) else ()):
            for path in paths:
                if isinstance(found := _inside(each, path), Mapping):
                    yield (key, at, *path), found


def _inside(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


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


def _tools(raw: Mapping[str, Any]) -> Iterator[Any]:
    lists = [raw.get("tools"), raw.get("functions")]
    items = raw.get("input")
    if isinstance(items, list):
        lists += [
            item.get("tools") or item.get("additional_tools") for item in items if isinstance(item, dict)
        ]
    while lists:
        found = lists.pop(0)
        for tool in found if isinstance(found, list) else ():
            yield tool
            if isinstance(tool, dict) and isinstance(tool.get("tools"), list):  # a namespace
                lists.append(tool["tools"])
