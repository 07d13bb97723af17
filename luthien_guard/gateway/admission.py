"""The door: which Host, which origin, who. It stands outside of the guard, so that nobody who may not come in costs a
policy anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from luthien_guard.asgi import POLICY_SET
from luthien_guard.asgi.headers import first, frozen, values
from luthien_guard.asgi.types import ASGIApp, Headers, Receive, Scope, Send
from luthien_guard.config.settings import ServerSettings
from luthien_guard.gateway.auth import Authenticator, Refusal
from luthien_guard.gateway.refusals import Refusals
from luthien_guard.gateway.relay import PRINCIPAL, answer_error
from luthien_guard.gateway.scopes import scope_refusal
from luthien_guard.wire.formats import FORMATS

__all__ = ["Doorway", "Hosts", "wire_format_of"]

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_EVERYWHERE: Final = ("0.0.0.0", "::", "")  # noqa: S104 -- compared with, not bound to
_OPEN: Final = ("/health", "/health/live", "/health/ready")


class Hosts:
    """The names under which the gateway may be asked. A page in a browser can make a name of its own point here (DNS
    rebinding), and can post to any address: its Host or its Origin gives it away."""

    def __init__(self, server: ServerSettings) -> None:
        own = () if server.host in _EVERYWHERE else (server.host,)
        self._names = {name.lower() for name in (*_LOOPBACK, *own, *server.allowed_hosts)}
        self._suffixes = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._any = "*" in self._names

    def refusal(self, headers: Headers) -> Refusal | None:
        if self._any:
            return None
        hosts = values(headers, b"host")
        if len(hosts) != 1 or not self._is_known(_hostname(b"//" + hosts[0])):
            return Refusal(
                421, "host_not_allowed", "this host name is not served here: see server.allowed_hosts"
            )
        origin = first(headers, b"origin")
        if origin and not self._is_known(_hostname(origin)):
            return Refusal(403, "origin_not_allowed", "this origin may not ask: see server.allowed_hosts")
        return None

    def _is_known(self, name: str) -> bool:
        return bool(name) and (name in self._names or name.endswith(self._suffixes))


class Doorway:
    """Pure ASGI. `scope["state"][PRINCIPAL]` says further in who asks."""

    def __init__(
        self, app: ASGIApp, *, auth: Authenticator, server: ServerSettings, refusals: Refusals
    ) -> None:
        self.app = app
        self._auth = auth
        self._hosts = Hosts(server)
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = frozen(scope["headers"])
        refusal = self._hosts.refusal(headers)
        if refusal is None and scope["path"] not in _OPEN:
            admitted = await self._auth.admit(headers)
            if isinstance(admitted, Refusal):
                refusal = admitted
            else:
                refusal = scope_refusal(admitted, scope)
                own = {PRINCIPAL: admitted, POLICY_SET: admitted.policy_set}
                scope["state"] = {**(scope.get("state") or {}), **own}
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await _refuse(scope, send, refusal, await self._refusals.note(scope, headers, refusal))


def wire_format_of(path: str) -> str:
    """The format whose clients ask for this path; that of the most clients where none does."""
    return next((name for name, each in FORMATS.items() if each.suffix in path), "openai.chat")


async def _refuse(scope: Scope, send: Send, refusal: Refusal, call_id: str | None) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.message[:100]})
        return
    await answer_error(
        send,
        wire_format_of(scope["path"]),
        refusal.status,
        refusal.code,
        refusal.message,
        tuple(_extra(refusal, call_id)),
    )


def _extra(refusal: Refusal, call_id: str | None) -> Iterable[tuple[bytes, bytes]]:
    if call_id is not None:
        yield b"x-luthien-call-id", call_id.encode()
    if refusal.status == 401:
        yield b"www-authenticate", b"Bearer"
    if refusal.retry_after is not None:
        yield b"retry-after", b"%d" % max(1, round(refusal.retry_after))


def _hostname(url: bytes) -> str:
    try:
        return (urlsplit(url.decode("latin-1")).hostname or "").lower().rstrip(".")
    except ValueError:
        return ""
