"""Credentials in a request, at any depth: known by the names under which they stand.

What may reach the model as text (prompts, tools, schemas) is never taken for a credential, whatever its name: nothing
may hide there from policies and records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from sys import maxsize
from typing import Any, Final

from luthien_guard.delivery.credentials import (
    are_headers,
    is_secret,
    is_whole,
    secrets_of_headers,
    unschemed,
)

__all__ = ["PLAIN", "PROMPTS", "is_server", "secrets_in", "secrets_of_request"]

#: Text for the model, or the shape of text. `properties`: the names in a JSON schema are anybody's.
PROMPTS: Final = frozenset(
    {
        "function_call",
        "functions",
        "input",
        "instructions",
        "messages",
        "output_config",
        "output_format",
        "prediction",
        "prompt",
        "prompt_variables",
    }
    | {"properties", "response_format", "system", "text", "text_format", "tool_choice", "tools"}
)
#: Holds headers and is none itself.
_OF_ONE_PROVIDER: Final = "provider_specific_header"
#: What nearly every request says, and what has no place for a credential.
PLAIN: Final = (PROMPTS - {"tools"}) | frozenset(
    {
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "model",
        "n",
        "reasoning",
        "stop",
        "store",
        "stream",
    }
    | {"stream_options", "temperature", "thinking", "top_p", "user"}
)
#: Of one request: each is looked for in all of its records, and who sends it should not say for how long...
_MOST: Final = 32
#: ... nor how long they are searched for: who names them behind so many parts hides none.
_PARTS: Final = 10_000
_LONGEST: Final = 32 * 1024  # characters: servers take no longer header


def secrets_of_request(request: Mapping[str, Any]) -> list[str]:
    """Those that its JSON holds: for the servers that a provider calls, or for the provider."""
    said = [(name, value) for name, value in request.items() if name not in PLAIN]
    return list(dict.fromkeys(_found(said, _PARTS)))[:_MOST]


def secrets_in(name: object, value: Any) -> list[str]:
    """Every credential in an argument."""
    return _found([(name, value)], maxsize)


def _found(said: Iterable[tuple[object, Any]], most: int) -> list[str]:
    """Walks without recursion, nowhere twice, and looks at so many parts: what goes around the policies may have any
    shape."""
    todo, found = list(said), list[str]()
    seen: set[int] = set()
    while todo:
        name, value = todo.pop()
        if isinstance(value, str):
            found += unschemed(value) if is_secret(name) and len(value) <= _LONGEST else ()
        elif id(value) not in seen:
            seen.add(id(value))
            if are_headers(name) and name != _OF_ONE_PROVIDER and isinstance(value, Mapping):
                found += _in_headers(value, most)
            parts = list(islice(_parts(name, value), most))
            most -= len(parts)
            todo += parts
    return found


def _in_headers(headers: Mapping[Any, Any], most: int) -> Iterable[str]:
    some = islice(headers.items(), most)
    said = {name: value for name, value in some if isinstance(value, str) and len(value) <= _LONGEST}
    return secrets_of_headers(said)


def _parts(name: object, value: Any) -> Iterator[tuple[object, Any]]:
    """What is in a container, each part with the name under which it stands."""
    if isinstance(value, Mapping):
        inherits = is_secret(name) and is_whole(name)  # `credentials`: whatever they hold
        yield from (
            () if name in PROMPTS else ((name if inherits else key, each) for key, each in value.items())
        )
    elif isinstance(value, (list, tuple)):
        for each in value:
            if name not in PROMPTS:
                yield name, each
            elif name == "tools" and is_server(each):
                yield "server", each


def is_server(tool: Any) -> bool:
    """A tool that the provider calls over the network: its headers are for that, the model does not get them."""
    return isinstance(tool, Mapping) and tool.get("type") == "mcp"
