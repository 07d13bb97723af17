"""The gateway's own keys: `lg_<id>_<secret>`, of which only an HMAC is kept."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = ["Key", "Keys", "key_of", "looks_like_key", "new_key", "parse_key", "row_of"]

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


def row_of(key: Key) -> tuple[Any, ...]:
    """As tables keep it."""
    scopes, settings = json.dumps(sorted(key.scopes)), json.dumps(dict(key.settings))
    return key.id, key.mac, key.name, scopes, key.created_at, key.expires_at, key.revoked_at, settings


def key_of(row: tuple[Any, ...]) -> Key:
    id, mac, name, scopes, created_at, expires_at, revoked_at, settings = row
    return Key(
        id, mac, name, frozenset(json.loads(scopes)), created_at, expires_at, revoked_at, json.loads(settings)
    )
