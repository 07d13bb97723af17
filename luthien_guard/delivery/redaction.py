"""Credentials never reach a sink: known secrets by value, and what has the shape of a well-known one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["Redactor", "secrets_of_environment", "spellings"]

MASK: Final = "[redacted]"
_SHORTEST: Final = 8  # a shorter "secret" would black out ordinary text
_NAMES: Final = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|PEPPER)$", re.IGNORECASE)
#: Prefixes that providers chose so that their keys can be found: a text that has none of them needs no search. Each
#: pattern takes time linear in the text, whatever somebody writes into it.
_SHAPES: Final = {
    "sk-": r"sk-[A-Za-z0-9_-]{20,}",
    "AKIA": r"AKIA[0-9A-Z]{16}",
    "ASIA": r"ASIA[0-9A-Z]{16}",
    "AIza": r"AIza[0-9A-Za-z_-]{35}",
    "gh": r"gh[pousr]_[A-Za-z0-9]{36,}",
    "github_pat_": r"github_pat_[A-Za-z0-9_]{22,}",
    "xox": r"xox[abprs]-[A-Za-z0-9-]{10,}",
    "hf_": r"hf_[A-Za-z0-9]{30,}",
    "lg_": r"lg_[A-Za-z0-9]++_[A-Za-z0-9_-]{32,}",
    "-----BEGIN": r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
}
#: A JSON Web Token. What only begins like one matches too, without the group: "eyJeyJeyJ..." is passed in one step
#: (a search from each "eyJ" to the end of the text takes hours for a megabyte of them).
_JWT: Final = r"eyJ[A-Za-z0-9_-]{10,}+(\.eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,})?"
_SHORTEST_SHAPE: Final = 15
_SHAPED: Final = tuple((prefix, re.compile(shape)) for prefix, shape in _SHAPES.items())
_JWTS: Final = re.compile(_JWT)


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
        spelled = (form for each in secrets for form in spellings(each))
        known = {*self._known, *(each for each in spelled if len(each) >= _SHORTEST)}
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
            for prefix, shape in _SHAPED:
                if prefix in text:
                    text = shape.sub(MASK, text)
            if "eyJ" in text:
                text = _JWTS.sub(lambda found: MASK if found[1] else found[0], text)
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


def spellings(secret: str) -> tuple[str, str, str]:
    """As it is, and as it stands in the JSON of a body."""
    return secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]
