"""Who asks, from the headers of a request: in a form that may be stored."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from luthien_guard.errors import ConfigError
from luthien_guard.exchange import RequestMetadata, new_call_id
from luthien_guard.identity import SESSION_FROM, SessionSource, header_names

__all__ = ["Callers", "pepper_of"]

#: Where clients put their key, in the order in which it identifies them.
_IN_ORDER: Final = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"proxy-authorization")
_CREDENTIALS: Final = frozenset(_IN_ORDER)
_PEPPER: Final = 32  # bytes
_WORDS: Final = 16
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Callers:
    """Reads headers. A key never leaves: what stays is its HMAC-SHA-256 under `pepper`, which tells callers apart and
    cannot be tried out by who finds it. `pepper` is asked for on first use; without one there is a random one, for this
    process only."""

    def __init__(
        self,
        *,
        pepper: Callable[[], bytes] | None = None,
        session_from: Sequence[SessionSource] = SESSION_FROM,
    ) -> None:
        self._pepper = cache(pepper or _random)
        self._kept: Callable[[bytes], str | None] = _nowhere
        self._sessions = header_names(session_from)
        self._telling = frozenset({*_CREDENTIALS, *self._sessions, b"traceparent"})

    def metadata(self, headers: Sequence[tuple[bytes, bytes]], endpoint: str = "") -> RequestMetadata:
        """The facts of a new exchange. `headers`: names in lower case. Of a header that is sent twice the first counts, as
        frameworks have it."""
        metadata = RequestMetadata(new_call_id(), time.time(), endpoint=endpoint)
        telling = self._telling
        if told := [pair for pair in headers if pair[0] in telling]:
            self._tell(metadata, told)
        return metadata

    def _tell(self, metadata: RequestMetadata, told: list[tuple[bytes, bytes]]) -> None:
        fields = dict(reversed(told))
        keys = [fields[name] for name in _IN_ORDER if name in fields]
        if keys:
            metadata.api_key_hash = self.hashed(_key(keys[0]))
            metadata.secrets = _some(
                [word for name, value in told if name in _CREDENTIALS for word in _words(value)]
            )
        if trace := _TRACEPARENT.fullmatch(fields.get(b"traceparent", b"")):
            metadata.trace_id, metadata.traceparent = trace[1].decode(), trace[0].decode()
        session = next((fields[name] for name in self._sessions if name in fields), b"")
        metadata.session_id = session[:256].decode("latin-1") or None

    def hashed(self, key: bytes) -> str:
        """Hex HMAC-SHA-256."""
        return self._kept(key) or hmac.digest(self._pepper(), key, "sha256").hex()

    def learn(self, kept: Callable[[bytes], str | None]) -> None:
        """`kept`: the HMAC under which a key is kept elsewhere, None for any other key. Records then name it as its list
        does."""
        self._kept = kept


def pepper_of(folder: Path) -> bytes:
    """The pepper of a deployment: LUTHIEN_PEPPER, or 32 random bytes in a file that is made on first use (0600).
    Raises ConfigError for a file that holds less."""
    named = os.environ.get("LUTHIEN_PEPPER")
    if named:
        return hashlib.sha256(named.encode()).digest()
    path = folder / "pepper"
    while (pepper := _read(path)) is None:
        _make(path)
    return pepper


def _read(path: Path) -> bytes | None:
    """None for what is not there. Hashes under half a pepper could be tried out, and under another one they would name
    nobody: who cut it off has to say what shall be."""
    try:
        pepper = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(pepper) < _PEPPER:
        raise ConfigError(f"{path}: {_PEPPER} bytes of pepper are expected: restore the file, or delete it")
    return pepper


def _make(path: Path) -> None:
    """The file appears whole, or not at all; of several who make it at once, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    whole = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(_PEPPER))
    try:
        os.link(whole, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        whole.replace(path)
    finally:
        whole.unlink(missing_ok=True)


def _nowhere(key: bytes) -> None:
    return None


def _random() -> bytes:
    return secrets.token_bytes(_PEPPER)


def _some(words: list[str]) -> tuple[str, ...]:
    """Each is looked for in every record, and a client may send thousands. What a proxy has put to them stands at one of
    their ends."""
    return tuple(words if len(words) <= 2 * _WORDS else words[:_WORDS] + words[-_WORDS:])


def _key(value: bytes) -> bytes:
    """The credential without its scheme ("Bearer ")."""
    scheme, _, key = value.strip().partition(b" ")
    return key.strip() or scheme


def _words(value: bytes) -> list[str]:
    """What must not be told of a credential; its scheme is no secret, and too short to be taken for one."""
    return [word.decode("latin-1") for word in _key(value).split()]
