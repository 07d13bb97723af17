"""What the application is given in place of the server's scope and `receive`."""

from __future__ import annotations

from typing import Any, Final

import anyio

from luthien_guard.asgi.handle import ExchangeHandle
from luthien_guard.asgi.request import body_headers
from luthien_guard.asgi.types import AppGuard, Headers, Message, Scope

__all__ = ["SEAL", "Replay", "inner_scope", "is_covered", "promises_errors"]

#: The scope key under which an exchange says to another middleware of the same guard, further in, that it has this request
#: in hand. A live object, made for this exchange: no header and no client can put it there.
SEAL: Final = "luthien_guard"
#: Ways around the body, which an application takes only where its server offers them.
_AROUND: Final = frozenset(
    {
        "http.response.debug",
        "http.response.early_hint",
        "http.response.pathsend",
        "http.response.push",
        "http.response.trailers",
        "http.response.zerocopysend",
    }
)


def is_covered(scope: Scope, guard: AppGuard, wire_format: str) -> bool:
    """True when the same guard has this very request in hand further out."""
    seal = scope[SEAL]
    return isinstance(seal, ExchangeHandle) and seal.covers(guard, wire_format)


def inner_scope(outer: Scope, headers: Headers, body: bytes, handle: ExchangeHandle) -> Scope:
    """A copy of the server's scope, about this body, with no way around the answer's."""
    scope: Scope = dict(outer)
    scope["headers"] = body_headers(headers, body)
    if extensions := scope.get("extensions"):
        scope["extensions"] = {name: value for name, value in extensions.items() if name not in _AROUND}
    state = scope.get("state")
    if not isinstance(state, dict):
        state = scope["state"] = {}
    state["luthien"] = handle
    scope[SEAL] = handle
    return scope


class Replay:
    """The application's `receive`: the whole body once, then silence until its answer has ended."""

    __slots__ = ("_body", "_ended", "_listeners", "over", "told")

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._ended: anyio.Event | None = None  # for who listens
        self._listeners = 0
        self.over = False
        self.told = False  # somebody listened when it ended, and so can end by itself

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._ended is None:
            self._ended = anyio.Event()
            if self.over:
                self._ended.set()
        self._listeners += 1
        try:
            await self._ended.wait()
        finally:
            self._listeners -= 1
        return {"type": "http.disconnect"}

    def hang_up(self) -> None:
        """Nothing that the application says is heard any more."""
        if not self.over:
            self.over, self.told = True, self._listeners > 0
            if self._ended is not None:
                self._ended.set()


def promises_errors(scope: Scope) -> bool:
    """ASGI 2.4: `send` raises OSError after a disconnect. Applications choose their way by this version."""
    asgi: Any = scope.get("asgi") or {}
    version = str(asgi.get("spec_version", "2.0")).split(".")
    try:
        return (int(version[0]), int(version[1])) >= (2, 4)
    except (ValueError, IndexError):
        return False
