"""The gateway of one worker, from its configuration. Any ASGI server can make it:

POLICY_CONFIG=guard.yaml uvicorn --factory luthien_guard.gateway.factory:application
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from luthien_guard.config.defaults import gateway_defaults
from luthien_guard.config.load import Loaded, config_from_environment, guard_arguments, load_config
from luthien_guard.config.reload import Reloader
from luthien_guard.gateway import create_app
from luthien_guard.gateway.authentication import make_authenticator
from luthien_guard.gateway.hosts import LoopbackOnly, check_binding, is_loopback
from luthien_guard.guard import Guard

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["application", "application_of", "configured"]


def application() -> Starlette:
    """From `POLICY_CONFIG` and `LUTHIEN_*`. Raises ConfigError."""
    return application_of(configured())


def configured() -> Loaded:
    """What `POLICY_CONFIG` and `LUTHIEN_*` say, over the gateway's defaults."""
    path = config_from_environment()
    return load_config(path, defaults=gateway_defaults(has_file=path is not None))


def application_of(loaded: Loaded, *, load: Callable[[], Loaded] = configured) -> Starlette:
    """The guard, the application and what runs beside it. `load` reads the same configuration once more. Raises
    ConfigError, also for a door that would stand open to others."""
    config = loaded.config
    check_binding(config)
    guard = Guard(**guard_arguments(config))
    auth = make_authenticator(
        config.auth, loopback=is_loopback(config.server.host), policy_sets=lambda: guard.policy_sets
    )
    app = create_app(guard, config.upstreams, auth=auth, server=config.server)
    app.state.guard = guard
    if config.auth.mode == "off":
        app.add_middleware(LoopbackOnly)
    if loaded.path is not None:
        reloader = Reloader(guard, loaded.path, load=load, interval=config.server.reload)
        app.router.lifespan_context = partial(_beside, app.router.lifespan_context, reloader)
    return app


@asynccontextmanager
async def _beside(inner: Any, reloader: Reloader, app: Starlette) -> AsyncGenerator[Any]:
    async with inner(app) as state, anyio.create_task_group() as tasks:
        tasks.start_soon(reloader.run)
        yield state
        tasks.cancel_scope.cancel()
