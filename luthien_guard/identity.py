"""Whose conversation a request belongs to, as far as the request itself says."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from luthien_guard.errors import ConfigError
from luthien_guard.exchange import ChatRequest

__all__ = [
    "SESSION_FROM",
    "SessionSource",
    "Sessions",
    "Threads",
    "header_names",
    "user_of",
]

#: "header:NAME", "body:PATH" (keys separated by dots), or a function of the request.
SessionSource = str | Callable[[ChatRequest], str | None]

SESSION_FROM: Final[tuple[SessionSource, ...]] = (
    "header:x-session-id",
    "header:session-id",
    "header:session_id",
    "header:x-claude-code-session-id",
    "body:metadata.session_id",
    "body:metadata.user_id",
    "body:conversation",
    "body:prompt_cache_key",
    "body:previous_response_id",
)
_LONGEST: Final = 256
_NAMES_USER: Final = frozenset({"metadata", "safety_identifier", "user"})
#: Claude Code's plain form: user_<hash>_account_<uuid>_session_<uuid>
_IN_USER: Final = re.compile(r"(?P<user>.+?)_session_(?P<session>[0-9a-fA-F-]{8,})\Z", re.DOTALL)


def header_names(sources: Sequence[SessionSource]) -> tuple[bytes, ...]:
    """The headers that name a session, in order. Raises ConfigError for a source of an unknown kind."""
    for each in sources:
        if isinstance(each, str) and not each.startswith(("header:", "body:")):
            raise ConfigError(f'session_from: {each!r} is neither "header:NAME" nor "body:PATH"')
    named = [each for each in sources if isinstance(each, str) and each.startswith("header:")]
    return tuple(each[7:].lower().encode("latin-1") for each in named)


class Sessions:
    """The places in a request's body that name its session, in their order."""

    def __init__(self, sources: Sequence[SessionSource]) -> None:
        self._sources = [each for each in sources if callable(each) or each.startswith("body:")]
        self._paths = {each: _path(each) for each in self._sources if not callable(each)}
        # Few requests say something: one look at their keys answers for all sources, unless one is a function.
        asks = any(map(callable, self._sources))
        self._keys = None if asks else frozenset(path[0] for path in self._paths.values())
        self.follow_responses = "body:previous_response_id" in self._paths

    def of(self, request: ChatRequest) -> str | None:
        """What the first source says that says something; at most 256 characters of it."""
        if self._keys is not None and self._keys.isdisjoint(request.raw):
            return None
        for source in self._sources:
            found = source(request) if callable(source) else _at(request.raw, self._paths[source])
            if callable(source) or source != "body:metadata.user_id":
                session = found.get("id") if isinstance(found, Mapping) else found
            else:  # an id of the user, unless a session stands in it
                session = _parts(found)[1]
            if isinstance(session, str) and session:
                return session[:_LONGEST]
        return None


class Threads:
    """Responses that go on from one another (`previous_response_id`) are one session: that of the first, or its id. Known
    for the latest responses of this process; who goes on from another one has the id that it named."""

    SIZE: Final = 10_000

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, str] = OrderedDict()

    def of(self, session: str) -> str:
        """The session that is meant, where `session` is the id of a response."""
        return self._sessions.get(session, session)

    def answered(self, response_id: str, session: str | None) -> str:
        """Remember the response; its session."""
        response_id = response_id[:_LONGEST]  # so it is asked for
        found = self._sessions[response_id] = session or response_id
        while len(self._sessions) > self.SIZE:
            self._sessions.popitem(last=False)
        return found


def user_of(request: ChatRequest) -> str | None:
    """Who the client says that its user is."""
    raw = request.raw
    if _NAMES_USER.isdisjoint(raw):
        return None
    user, _ = _parts(_at(raw, ["metadata", "user_id"]))
    for found in (user, raw.get("safety_identifier"), raw.get("user")):
        if isinstance(found, str) and found:
            return found[:_LONGEST]
    return None


def _path(source: str) -> tuple[str, ...]:
    return tuple(source.removeprefix("body:").split("."))


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, (dict, Mapping)) else None
        if value is None:
            break
    return value


def _parts(user_id: Any) -> tuple[str | None, str | None]:
    """(user, session) in Anthropic's `metadata.user_id`, plain or JSON."""
    if not isinstance(user_id, str) or len(user_id) > 4096:
        return None, None
    if user_id.startswith("{"):
        try:
            found = json.loads(user_id)
        except (ValueError, RecursionError):
            return user_id, None
        user = next((found[key] for key in ("account_uuid", "device_id", "user_id") if found.get(key)), None)
        return user, found.get("session_id")
    match = _IN_USER.match(user_id)
    return (match["user"], match["session"]) if match else (user_id, None)
