"""The gateway of one worker, from its configuration. Any ASGI server can make it:

POLICY_CONFIG=guard.yaml uvicorn --factory luthien_guard.gateway.factory:application
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from luthien_guard.config.defaults import gateway_defaults
from luthien_guard.config.explain import of_file
from luthien_guard.config.load import Loaded, config_from_environment, guard_arguments, load_config
from luthien_guard.config.reload import Reloader
from luthien_guard.errors import ConfigError
from luthien_guard.gateway import create_app
from luthien_guard.gateway.authentication import make_authenticator
from luthien_guard.gateway.hosts import LoopbackOnly, check_binding, is_loopback
from luthien_guard.gateway.key import hashes
from luthien_guard.gateway.last_good import last_good, remember
from luthien_guard.gateway.shared.sharing import Sharing
from luthien_guard.gateway.upstreams.providers import wide_credential
from luthien_guard.guard import Guard

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from luthien_guard.config.settings import UpstreamSettings

__all__ = ["application", "application_of", "beside", "configured"]

logger = logging.getLogger("luthien_guard")


def application() -> Starlette:
    """From `POLICY_CONFIG` and `LUTHIEN_*`. Raises ConfigError."""
    try:
        return application_of(configured())
    except ConfigError as error:
        copy = last_good()
        if copy is None:
            raise
        logger.error("the configuration that was right before is served: %s", error)
        return application_of(_loaded(copy), path=config_from_environment(), error=str(error))


def configured() -> Loaded:
    """What `POLICY_CONFIG` and `LUTHIEN_*` say, over the gateway's defaults."""
    return _loaded(config_from_environment())


def application_of(
    loaded: Loaded,
    *,
    load: Callable[[], Loaded] = configured,
    path: Path | None = None,
    error: str | None = None,
) -> Starlette:
    """The guard, the application and what runs beside it. `load` reads the same configuration once more; `path` is the
    file to watch, if it is not the one that was loaded, and `error` what is wrong with it. Raises ConfigError, also for
    a door that would stand open to others."""
    config = loaded.config
    check_binding(config)
    with of_file(loaded.path, loaded.origins):
        guard = Guard(**guard_arguments(config))
    _warn(config.upstreams)
    sharing = Sharing(loaded, lambda: guard.policy_version)
    auth = make_authenticator(
        config.auth,
        loopback=is_loopback(config.server.host),
        policy_sets=lambda: guard.policy_sets,
        keys=sharing.keys,
        rates=sharing.rates,
    )
    app = create_app(guard, config.upstreams, auth=auth, server=config.server, reasons=sharing.reasons)
    if config.auth.mode in ("client_key", "both"):
        guard.callers.learn(hashes(sharing.keys))
    beside(app, sharing.run)
    app.state.guard = guard
    if config.auth.mode == "off":
        app.add_middleware(LoopbackOnly)
    watched = path or loaded.path
    if watched is not None:
        remember(loaded)
        reloader = Reloader(
            guard,
            watched,
            load=load,
            interval=config.server.reload,
            accepted=remember,
            error=error,
            made_of=loaded,
        )
        beside(app, reloader.run)
    return app


def _warn(upstreams: Sequence[UpstreamSettings]) -> None:
    for number, each in enumerate(upstreams, start=1):
        if warning := wide_credential(each):
            logger.warning("upstream %s: %s", each.name or f"number {number}", warning)


def _loaded(path: Path | None) -> Loaded:
    return load_config(path, defaults=gateway_defaults(has_file=path is not None))


def beside(app: Starlette, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have it run while the application does."""
    inner: Any = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[Any]:
        async with inner(app) as state, anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            yield state
            tasks.cancel_scope.cancel()

    app.router.lifespan_context = lifespan
