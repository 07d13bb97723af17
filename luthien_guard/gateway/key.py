"""The gateway's own keys: `lg_<id>_<secret>`, of which only an HMAC is kept."""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from luthien_guard.errors import ConfigError

__all__ = ["Key", "KeyReader", "Keys", "hashes", "key_of", "looks_like_key", "new_key", "parse_key", "row_of"]

T = TypeVar("T")
logger = logging.getLogger("luthien_guard")

_SHAPE: Final = re.compile(r"lg_([0-9a-f]{12})_([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is kept. Times are Unix seconds. `scopes`: what it may be used for (`*` is everything);
    `settings`: further facts for who asks with it (`requests_per_minute`, names of policies, labels)."""

    id: str
    mac: bytes
    name: str
    scopes: frozenset[str]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    settings: Mapping[str, Any]

    def state(self, now: float) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    @property
    def hash(self) -> str:
        """`api_key_hash` in the records of its calls."""
        return self.mac.hex()


class Keys(Protocol):
    """Where keys are kept. All but `find` is for the command line and may block; every failure is a ConfigError."""

    @property
    def place(self) -> str:
        """For messages."""
        ...

    async def find(self, id: str) -> Key | None:
        """The key with this id, as it is now. Raises SinkError while nobody can say."""
        ...

    def mac(self, text: str) -> bytes:
        """What is kept of a key's text."""
        ...

    def create(
        self,
        name: str = "",
        *,
        scopes: Iterable[str] = ("*",),
        seconds: float | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> tuple[Key, str]:
        """A new key and its text, which nobody can get a second time. `seconds`: how long it is valid."""
        ...

    def revoke(self, id: str) -> bool:
        """True when there was such a key and it was not revoked before."""
        ...

    def all(self) -> list[Key]:
        """Oldest first."""
        ...

    def close(self) -> None: ...


def new_key(
    mac: Callable[[str], bytes],
    name: str = "",
    *,
    scopes: Iterable[str] = ("*",),
    seconds: float | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[Key, str]:
    """A key that is not kept yet, and its text. `mac`: what is kept of a text."""
    id, secret = secrets.token_hex(6), secrets.token_hex(32)
    text = f"lg_{id}_{secret}"
    now = time.time()
    expires = None if seconds is None else now + seconds
    return Key(id, mac(text), name, frozenset(scopes), now, expires, None, dict(settings or {})), text


def parse_key(text: str) -> str | None:
    """The id in a key's text; None when this is no key of ours."""
    found = _SHAPE.fullmatch(text)
    return found[1] if found else None


def looks_like_key(text: str) -> bool:
    """A key of ours, or what is left of one: it must not travel on to a provider."""
    return text.startswith("lg_")


def hashes(keys: Keys) -> Callable[[bytes], str | None]:
    """For records: what has a key's shape, valid or not, by what would be kept of it among `keys`."""

    def hashed(key: bytes) -> str | None:
        text = key.decode("latin-1")
        try:
            return None if parse_key(text) is None else keys.mac(text).hex()
        except (ConfigError, OSError):  # then no key opens anything: whoever checks it says why
            return None

    return hashed


def row_of(key: Key) -> tuple[Any, ...]:
    """As tables keep it."""
    scopes, settings = json.dumps(sorted(key.scopes)), json.dumps(dict(key.settings))
    return key.id, key.mac, key.name, scopes, key.created_at, key.expires_at, key.revoked_at, settings


def key_of(row: Sequence[Any]) -> Key:
    """Raises ValueError for a row that is no key's."""
    id, mac, name, scopes, created_at, expires_at, revoked_at, settings = row
    if not all(map(_is_text, (id, name, scopes, settings))):
        raise ValueError(f"{id!r} is no key: it is not in UTF-8")
    if not all(map(_is_time, (created_at, expires_at or 0, revoked_at or 0))):
        raise ValueError(f"{id!r} is no key: its times are no numbers")
    may, more = _parsed(id, "scopes", scopes), _parsed(id, "settings", settings)
    if not isinstance(may, list) or not all(isinstance(each, str) for each in may):
        raise ValueError(f"{id!r} is no key: its scopes are no list of names")
    if not isinstance(more, dict):
        raise ValueError(f"{id!r} is no key: its settings are no JSON object")
    return Key(id, mac, name, frozenset(may), created_at, expires_at, revoked_at, more)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not math.isnan(value)


def _parsed(id: str, column: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{id!r} is no key: its {column} are not JSON") from None


class KeyReader:
    """Reads the rows at `place`. Who spoils one by hand must not lock out the others: what cannot be read is nobody's key,
    and the log says so once."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._told: set[str] = set()

    def keys(self, rows: Iterable[T], key_of: Callable[[T], Key]) -> list[Key]:
        """`key_of` raises ValueError for a row that is no key's."""
        found: list[Key] = []
        for row in rows:
            try:
                found.append(key_of(row))
            except ValueError as error:
                self._tell(f"{self._place}: {error}")
        return found

    def _tell(self, problem: str) -> None:
        if problem not in self._told:
            self._told.add(problem)
            logger.error("%s", problem)
