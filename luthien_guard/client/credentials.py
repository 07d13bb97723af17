"""Credentials among a call's arguments, at any depth: known by the names under which they stand.

What may reach the model as text (prompts, tools, schemas) is never taken for a credential, whatever its name: nothing
may hide there from the policies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from luthien_guard.delivery.credentials import (
    are_headers,
    is_secret,
    is_whole,
    secrets_of_headers,
    unschemed,
)

__all__ = ["Veil", "is_private", "is_secret", "secrets_in"]

#: Text for the model, or the shape of text. `properties`: the names in a JSON schema are anybody's.
_PROMPTS: Final = frozenset(
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


def is_private(name: object) -> bool:
    """Whether an argument of this name goes around the policies."""
    return is_secret(name) or is_whole(name)


def secrets_in(name: object, value: Any) -> list[str]:
    """Every credential in an argument. Walks without recursion and nowhere twice:
    what goes around the policies may have any shape."""
    found: list[str] = []
    seen: set[int] = set()
    todo: list[tuple[object, Any]] = [(name, value)]
    while todo:
        name, value = todo.pop()
        if isinstance(value, str):
            found += unschemed(value) if is_secret(name) else ()
        elif id(value) not in seen:
            seen.add(id(value))
            if are_headers(name) and name != _OF_ONE_PROVIDER and isinstance(value, Mapping):
                found += secrets_of_headers(
                    {key: each for key, each in value.items() if isinstance(each, str)}
                )
            todo += _parts(name, value)
    return found


def _parts(name: object, value: Any) -> Iterator[tuple[object, Any]]:
    """What is in a container, each part with the name under which it stands."""
    if isinstance(value, Mapping):
        inherits = is_secret(name) and is_whole(name)  # `credentials`: whatever they hold
        yield from (
            () if name in _PROMPTS else ((name if inherits else key, each) for key, each in value.items())
        )
    elif isinstance(value, (list, tuple)):
        for each in value:
            if name not in _PROMPTS:
                yield name, each
            elif name == "tools" and _is_server(each):
                yield "server", each


def _is_server(tool: Any) -> bool:
    """A tool that the provider calls over the network: its headers are for that, the model does not get them."""
    return isinstance(tool, Mapping) and tool.get("type") == "mcp"


class Veil:
    """Stand-ins for the private parts of the arguments that policies see."""

    def __init__(self) -> None:
        self._hidden: dict[object, tuple[object, Any]] = {}  # stand-in -> the name there, what it stands for

    def hide(self, name: object, value: Any) -> Any:
        """A copy of the JSON `value` of an argument with stand-ins for what is private in it."""
        if isinstance(value, (str, dict, list)) and is_whole(name):
            return self._stand_in(name, value)
        if isinstance(value, str):
            return self._stand_in(name, value) if is_secret(name) else value
        return _mapped(self.hide, name, value)

    def show(self, name: object, value: Any) -> Any:
        """The value with what the stand-ins stand for, wherever a policy has moved them: under the same name."""
        if isinstance(value, str):
            stood, real = self._hidden.get(value, (None, value))
            return real if stood == name else value
        return _mapped(self.show, name, value)

    def _stand_in(self, name: object, value: Any) -> str:
        made = f"[secret {len(self._hidden) + 1}]"
        self._hidden[made] = name, value
        return made


def _mapped(function: Callable[[object, Any], Any], name: object, value: Any) -> Any:
    """The value with each part that is no prompt replaced by `function(its name, it)`."""
    if name == "tools" and isinstance(value, list):
        return [function("server", each) if _is_server(each) else each for each in value]
    if name in _PROMPTS:
        return value
    if isinstance(value, dict):
        return {key: function(key, each) for key, each in value.items()}
    if isinstance(value, list):
        return [function(name, each) for each in value]
    return value
