"""Which addresses a gateway may be reached from, as it is configured."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from luthien_guard.asgi.types import ASGIApp, Receive, Scope, Send
from luthien_guard.config.settings import GuardConfig, UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.gateway.relay import answer_error
from luthien_guard.gateway.upstreams.own import credential_arguments, has_own_credential

__all__ = ["LoopbackOnly", "check_binding", "is_loopback"]

_ADVICE: Final = "use `auth: {mode: client_key}` and `luthien-guard keys create`, or bind 127.0.0.1"


def is_loopback(host: str) -> bool:
    """True when only this machine reaches what listens on `host`. A name other than `localhost` may be anything."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_binding(config: GuardConfig) -> None:
    """Refuse to open a door to others behind which nobody asks who they are. Raises ConfigError."""
    host, mode = config.server.host, config.auth.mode
    if is_loopback(host) or mode == "client_key":
        return
    if mode == "off":
        raise ConfigError(
            f"auth.mode is off and server.host is {host}: anyone could use this gateway; {_ADVICE}"
        )
    paying = _paid_by_host(config.upstreams)
    if paying:
        raise ConfigError(
            f"auth.mode is {mode}, server.host is {host}, and upstream {paying} has a credential of its own: anyone "
            f"could spend it; {_ADVICE}"
        )


class LoopbackOnly:
    """Pure ASGI: answers 403 to everyone who is not on this machine. With `auth: off` it holds also where somebody
    else's server binds the port."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] not in ("http", "websocket") or client is None or is_loopback(str(client[0])):
            await self.app(scope, receive, send)  # without an address it is a Unix socket
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "loopback only"})
        else:
            await answer_error(
                send, "openai.chat", 403, "loopback_only", "this gateway serves its own machine only"
            )


def _paid_by_host(upstreams: Sequence[UpstreamSettings]) -> str | None:
    """The first upstream that is asked with a credential of the host's, whoever asks."""
    for number, each in enumerate(upstreams, start=1):
        # any header: what a deployer's own proxy takes for a credential, nobody knows
        if has_own_credential(each) or each.headers or credential_arguments(each):
            return each.name or f"number {number}"
    return None
