"""Credentials never reach a sink: known secrets by value, and what has the shape of a well-known one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from luthien_guard.delivery.credentials import secrets_of_environment
from luthien_guard.delivery.escapes import Unescaped, bare, hides_letters, is_never_escaped, plainest
from luthien_guard.records import EventType

__all__ = ["NAMED_BY_POLICIES", "Redactor"]

MASK: Final = "[redacted]"
_SHORTEST: Final = 8  # a shorter "secret" would black out ordinary text
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
#: Facts whose names a policy chose.
NAMED_BY_POLICIES: Final = (EventType.POLICY_RECORD, EventType.ACTIVITY)
_LEVELS: Final = 3  # times that a backslash may itself be spelled
_SHORTEST_TAIL: Final = 8  # characters of a secret that was cut off
_LONGEST_TAIL: Final = 4096

_Secret = tuple[str, str]  # its beginning, all of it
_Span = tuple[int, int]


class Redactor:
    """Blacks out secrets in strings: those of the deployment (`learn`), those of one exchange (an argument), and
    whatever has the shape of one. Also where JSON spells them otherwise, and where the end of a text cuts them off: what
    is left of a known secret is one from 8 characters on."""

    def __init__(
        self, secrets: Iterable[str] = (), *, more: Callable[[str], str] | None = None, shapes: bool = True
    ) -> None:
        self._known: tuple[_Secret, ...] = ()
        self._more = more
        self._shapes = shapes
        self._least = _SHORTEST if more is None else 0  # characters of a text that may hold something
        self.learn(*secrets, *secrets_of_environment())

    def learn(self, *secrets: str) -> None:
        """Secrets of the deployment."""
        self._known = tuple(dict.fromkeys(self._with(secrets)))

    def __call__(self, text: str, secrets: Sequence[str] = ()) -> str:
        return self._text(text, self._with(secrets))

    def details(
        self, type: EventType, details: Mapping[str, Any], secrets: Sequence[str] = ()
    ) -> Mapping[str, Any]:
        """The same for every string of a record, at any depth, keys included; not for the names that are this library's
        own."""
        known = self._with(secrets)
        if type in NAMED_BY_POLICIES:
            return self._mapping(details, known)
        return {name: self._value(value, known) for name, value in details.items()}

    def _with(self, secrets: Sequence[str]) -> tuple[_Secret, ...]:
        return (*self._known, *_with_beginnings(secrets)) if secrets else self._known

    def _value(self, value: Any, known: tuple[_Secret, ...]) -> Any:
        if isinstance(value, str):
            return self._text(value, known) if len(value) >= self._least else value
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, Mapping):
            return self._mapping(value, known)
        if isinstance(value, (list, tuple)):
            return [self._value(inner, known) for inner in value]
        return value

    def _mapping(self, value: Mapping[Any, Any], known: tuple[_Secret, ...]) -> dict[str, Any]:
        return {self._value(str(name), known): self._value(inner, known) for name, inner in value.items()}

    def _text(self, text: str, known: tuple[_Secret, ...]) -> str:
        if found := self._found(text, known):
            text = _masked(text, found)
        return self._more(text) if self._more is not None else text

    def _found(self, text: str, known: tuple[_Secret, ...], levels: int = _LEVELS) -> list[_Span]:
        found: list[_Span] = []
        for beginning, secret in known:
            if beginning in text:
                found += _occurrences(text, beginning, secret)
        if self._shapes and len(text) >= _SHORTEST_SHAPE:
            for prefix, shape in _SHAPED:
                if prefix in text:
                    found += (match.span() for match in shape.finditer(text))
            if "eyJ" in text:
                found += (match.span() for match in _JWTS.finditer(text) if match[1])
        if levels and "\\" in text:
            found += self._spelled(text, known, levels - 1)
        return found

    def _spelled(self, text: str, known: tuple[_Secret, ...], levels: int) -> Iterator[_Span]:
        """Behind escapes. Most texts have none that can stand for something in a secret: those are spared a second look."""
        letters = hides_letters(text)
        odd = [secret for _, secret in known if not is_never_escaped(secret)]
        odd = [bare(secret) for secret in odd if letters or plainest(secret) in text]
        if letters or odd:
            unescaped = Unescaped(text, letters=not odd)
            for begin, end in self._found(unescaped.text, (*known, *_with_beginnings(odd)), levels):
                yield unescaped.origin(begin), unescaped.origin(end)


def _with_beginnings(secrets: Iterable[str]) -> list[_Secret]:
    return [(each[:_SHORTEST_TAIL], each) for each in secrets if len(each) >= _SHORTEST]


def _occurrences(text: str, beginning: str, secret: str) -> Iterator[_Span]:
    """Where the secret stands, and where at the end of the text its beginning does."""
    at = text.find(secret)
    while at >= 0:
        yield at, at + len(secret)
        at = text.find(secret, at + len(secret))
    end = len(text.rstrip(".…"))  # as whoever cuts a text says so
    at = text.find(beginning, max(end - min(len(secret), _LONGEST_TAIL), 0), end)
    while at >= 0:
        if secret.startswith(text[at:end]):
            yield at, end
            return
        at = text.find(beginning, at + 1, end)


def _masked(text: str, found: Iterable[_Span]) -> str:
    """What overlaps is one secret: each of them may hold a part of another."""
    parts: list[str] = []
    at = 0
    for begin, end in sorted(found):
        if begin >= at:
            parts += text[at:begin], MASK
        at = max(at, end)
    return "".join((*parts, text[at:]))
