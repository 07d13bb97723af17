"""The gateway: `GuardMiddleware` around a small application that relays to upstreams.

    app = create_app(Guard(["noop"]), [UpstreamSettings(match="claude-*", native="anthropic.messages")])

It takes `pip install 'luthien-guard[serve]'`; nothing of that is imported before `create_app` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from luthien_guard.errors import ConfigError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from luthien_guard.config.settings import ServerSettings, UpstreamSettings
    from luthien_guard.gateway.auth import Authenticator
    from luthien_guard.guard import Guard

__all__ = ["create_app"]


def create_app(
    guard: Guard,
    upstreams: Sequence[UpstreamSettings] = (),
    *,
    auth: Authenticator | None = None,
    server: ServerSettings | None = None,
    reasons: Callable[[], Iterable[str]] = tuple,
) -> Starlette:
    """The gateway as an ASGI application; see `luthien_guard.gateway.app.create_app`. Raises ConfigError."""
    try:
        from luthien_guard.gateway import app
    except ModuleNotFoundError as error:
        raise ConfigError(f"the gateway needs {error.name}: pip install 'luthien-guard[serve]'") from None
    return app.create_app(guard, upstreams, auth=auth, server=server, reasons=reasons)
