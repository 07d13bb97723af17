"""Credentials never reach a sink: known secrets by value, and what has the shape of a well-known one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["Redactor", "secrets_of_environment"]

MASK: Final = "[redacted]"
_SHORTEST: Final = 8  # a shorter "secret" would black out ordinary text
_NAMES: Final = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|PEPPER)$", re.IGNORECASE)
#: Prefixes that providers chose so that their keys can be found.
_SHAPES: Final = (
    r"sk-(?:ant-|proj-|or-|svcacct-)?[A-Za-z0-9_-]{20,}",
    r"(?:AKIA|ASIA)[0-9A-Z]{16}",
    r"gh[pousr]_[A-Za-z0-9]{36,}",
    r"github_pat_[A-Za-z0-9_]{22,}",
    r"xox[abprs]-[A-Za-z0-9-]{10,}",
    r"AIza[0-9A-Za-z_-]{35}",
    r"hf_[A-Za-z0-9]{30,}",
    r"lg_[A-Za-z0-9]+_[A-Za-z0-9_-]{32,}",
    r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
)
_SHORTEST_SHAPE: Final = 15
_SHAPED: Final = re.compile("|".join(_SHAPES))
#: Every shape holds one of these: texts without them, nearly all, are not searched further (a search for a fixed
#: string is thirty times as fast as one for a pattern).
_HINTS: Final = ("sk-", "AKIA", "ASIA", "gh", "xox", "AIza", "hf_", "lg_", "eyJ", "-----BEGIN")


def secrets_of_environment() -> list[str]:
    """The values of the environment variables whose names say that they are secrets."""
    return [value for name, value in os.environ.items() if _NAMES.search(name)]


class Redactor:
    """Blacks out secrets in strings: those of the deployment (`learn`), those of one exchange (an argument), and
    whatever has the shape of one."""

    def __init__(
        self, secrets: Iterable[str] = (), *, more: Callable[[str], str] | None = None, shapes: bool = True
    ) -> None:
        self._known: tuple[str, ...] = ()
        self._more = more
        self._shapes = shapes
        self.learn(*secrets, *secrets_of_environment())

    def learn(self, *secrets: str) -> None:
        """Secrets of the deployment."""
        known = {*self._known, *(each for each in secrets if len(each) >= _SHORTEST)}
        self._known = tuple(sorted(known, key=len, reverse=True))  # a secret may hold another

    def __call__(self, text: str, secrets: Sequence[str] = ()) -> str:
        if len(text) >= _SHORTEST:
            text = self._redacted(text, secrets)
        return self._more(text) if self._more is not None else text

    def _redacted(self, text: str, secrets: Sequence[str]) -> str:
        for secret in (*self._known, *secrets) if secrets else self._known:
            if secret in text and len(secret) >= _SHORTEST:
                text = text.replace(secret, MASK)
        if self._shapes and len(text) >= _SHORTEST_SHAPE:
            for hint in _HINTS:
                if hint in text:
                    return _SHAPED.sub(MASK, text)
        return text

    def details(self, details: Mapping[str, Any], secrets: Sequence[str] = ()) -> Mapping[str, Any]:
        """The same for every string, at any depth, keys included."""
        return {name: self._value(value, secrets) for name, value in details.items()}

    def _value(self, value: Any, secrets: Sequence[str]) -> Any:
        if isinstance(value, str):
            return self(value, secrets)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, Mapping):
            return {self(str(name), secrets): self._value(inner, secrets) for name, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._value(inner, secrets) for inner in value]
        return value
