"""What litellm says of how a stream ends, where that is not what upstream said.

Of several choices it says of one that it is finished, and leaves that out of the others; and it finishes a stream that ends
too early. The arguments of a tool call tell more: behind a whole JSON object no JSON goes on, so nothing of it can be
missing, and of any other something may be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import jiter

from luthien_guard.client.litellm_api import litellm
from luthien_guard.errors import WireError
from luthien_guard.wire.json_text import loads

__all__ = ["DONE", "Arguments", "are_half", "are_whole", "arguments_in", "is_made_up"]

#: What there is of each call, by its choice and its own number.
Arguments: TypeAlias = dict[tuple[Any, Any], str]

#: What says in the wire format that every choice is finished.
DONE: Final = b"data: [DONE]\n\n"


def is_made_up(stream: Any) -> bool:
    """Whether one of litellm's streams has ended, and not because upstream had finished."""
    if type(stream) is not litellm().CustomStreamWrapper or not stream.sent_last_chunk:
        return False
    return not (stream.received_finish_reason or stream.intermittent_finish_reason)


def arguments_in(chunks: Iterable[bytes]) -> Arguments:
    """Those of the tool calls in these chunks (their JSON); none where a call has another shape."""
    arguments: Arguments = {}
    try:
        for choice in (choice for chunk in chunks for choice in jiter.from_json(chunk)["choices"]):
            for call in _calls(choice["delta"]):
                at = choice["index"], call.get("index")
                arguments[at] = arguments.get(at, "") + call["function"].get("arguments", "")
    except (LookupError, TypeError, AttributeError, ValueError):
        return {}
    return arguments


def are_whole(arguments: Arguments) -> bool:
    """Whether there are calls, and nothing can be missing at the end of any of them."""
    return bool(arguments) and all(map(_is_whole, arguments.values()))


def are_half(arguments: Arguments) -> bool:
    """Whether there are calls, and something may be missing at the end of one."""
    return bool(arguments) and not are_whole(arguments)


def _is_whole(text: str) -> bool:
    try:
        return type(loads(text.encode())) is dict
    except (ValueError, WireError):
        return False


def _calls(delta: dict[str, Any]) -> list[Any]:
    """Its fragments of calls; a `function_call` is the only one of its choice."""
    legacy = delta.get("function_call")
    return [*(delta.get("tool_calls") or ()), *([{"function": legacy}] if legacy else ())]
