"""Credentials among a call's arguments, hidden from the policies behind stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from luthien_guard.delivery.credentials import is_secret, is_whole
from luthien_guard.delivery.named import PROMPTS, is_server, secrets_in

__all__ = ["Veil", "is_private", "is_secret", "secrets_in"]


def is_private(name: object) -> bool:
    """Whether an argument of this name goes around the policies."""
    return is_secret(name) or is_whole(name)


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
        return [function("server", each) if is_server(each) else each for each in value]
    if name in PROMPTS:
        return value
    if isinstance(value, dict):
        return {key: function(key, each) for key, each in value.items()}
    if isinstance(value, list):
        return [function(name, each) for each in value]
    return value
