"""How a stream of several choices ends: litellm says of one of them that it is finished, and leaves that out of the others.

So a tool call of another choice has no end of its own, although upstream has given it one. Its arguments tell as much:
behind a whole JSON object no JSON goes on, so nothing of it can be missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import jiter

from luthien_guard.errors import WireError
from luthien_guard.wire.json_text import loads

__all__ = ["DONE", "are_whole"]

#: What says in the wire format that every choice is finished.
DONE: Final = b"data: [DONE]\n\n"


def are_whole(chunks: Iterable[bytes]) -> bool:
    """Whether there are tool calls in these chunks (their JSON), and nothing can be missing at the end of any of them."""
    arguments: dict[tuple[Any, Any], str] = {}
    try:
        for choice in (choice for chunk in chunks for choice in jiter.from_json(chunk)["choices"]):
            for call in _calls(choice["delta"]):
                at = choice["index"], call.get("index")
                arguments[at] = arguments.get(at, "") + call["function"].get("arguments", "")
        return bool(arguments) and all(type(loads(text.encode())) is dict for text in arguments.values())
    except (LookupError, TypeError, AttributeError, ValueError, WireError):  # a call of another shape
        return False


def _calls(delta: dict[str, Any]) -> list[Any]:
    """Its fragments of calls; a `function_call` is the only one of its choice."""
    legacy = delta.get("function_call")
    return [*(delta.get("tool_calls") or ()), *([{"function": legacy}] if legacy else ())]
