"""The application: a door, the guard, and behind it the relay."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from luthien_guard.asgi import GuardMiddleware
from luthien_guard.asgi.types import Receive, Scope, Send
from luthien_guard.config.settings import ServerSettings, UpstreamSettings
from luthien_guard.delivery.credentials import secrets_of_headers, secrets_of_settings
from luthien_guard.gateway.admission import Doorway
from luthien_guard.gateway.auth import Authenticator
from luthien_guard.gateway.authentication import Passthrough
from luthien_guard.gateway.health import Health, MetricsPage
from luthien_guard.gateway.metrics import Metrics
from luthien_guard.gateway.models import Models
from luthien_guard.gateway.openapi import OpenAPI
from luthien_guard.gateway.refusals import Refusals
from luthien_guard.gateway.relay import Relay, answer_error
from luthien_guard.gateway.shortcut import Shortcut
from luthien_guard.gateway.unknown import UnknownPath
from luthien_guard.gateway.upstreams import Upstreams
from luthien_guard.guard import Guard

__all__ = ["create_app"]

#: Requests like any other, whose answers are numbers: the middleware leaves them alone unless it is told.
_COUNTING: Final = {
    "/v1/messages/count_tokens": "anthropic.messages",
    "/v1/responses/input_tokens": "openai.responses",
}
_MOST: Final = 3  # routes, the first ones, take nearly all requests
#: An id goes into the upstream's URL: nothing in it may be read as part of a path.
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:=-]{0,511}\Z")


def create_app(
    guard: Guard,
    upstreams: Sequence[UpstreamSettings] = (),
    *,
    auth: Authenticator | None = None,
    server: ServerSettings | None = None,
    reasons: Callable[[], Iterable[str]] = tuple,
) -> Starlette:
    """The gateway around `guard`. May be mounted; what it needs starts with its lifespan or its first request.

    `upstreams`: the first that matches a model and speaks the wire format is asked; without any, models go where
    litellm finds them. `auth` decides who may come in (default: anyone, with their own credential for the upstream).
    `reasons`: why `/health` should answer `degraded`, besides its own. Raises ConfigError.
    """
    server = server or ServerSettings()
    metrics = Metrics(enabled=server.metrics, worker=str(os.getpid()) if server.workers > 1 else None)
    metrics.watch(guard.ledger)
    guard.redactor.learn(*_secrets(upstreams))
    pool = Upstreams(list(upstreams) or [UpstreamSettings(litellm={})], guard.limits, guard.inject)
    routes = _routes(guard, pool, server, metrics, reasons)
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Doorway, auth=auth or Passthrough(), server=server, refusals=Refusals(guard, metrics)),
            Middleware(GuardMiddleware, guard=guard, routes=_COUNTING),
            Middleware(Shortcut, posts={route.path: route.endpoint for route in routes[:_MOST]}),
        ],
        lifespan=_lifespan(pool),
    )
    app.router.redirect_slashes = False  # a path that is spelled otherwise is another path
    app.state.upstreams = pool
    app.state.metrics = metrics
    return app


def _secrets(upstreams: Sequence[UpstreamSettings]) -> list[str]:
    """What no record may hold: the upstreams' keys, their headers, and what litellm is told to open doors with."""
    keys = [each.api_key for each in upstreams if each.api_key]
    headers = [said for each in upstreams for said in secrets_of_headers(each.headers)]
    return [*keys, *headers, *(said for each in upstreams for said in secrets_of_settings(each.litellm))]


def _lifespan(pool: Upstreams) -> Any:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        await pool.start()
        try:
            yield
        finally:
            await pool.stop()

    return lifespan


def _routes(
    guard: Guard,
    pool: Upstreams,
    server: ServerSettings,
    metrics: Metrics,
    reasons: Callable[[], Iterable[str]],
) -> list[Route]:
    chat, messages, responses = (
        Relay(each, pool, guard.limits, metrics, redact=guard.redactor)
        for each in ("openai.chat", "anthropic.messages", "openai.responses")
    )
    stored = _Identified(responses)
    health = Health(guard, pool, reasons)
    return [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/messages", messages, methods=["POST"]),
        Route("/v1/responses", responses, methods=["POST"]),
        Route("/v1/messages/count_tokens", messages, methods=["POST"]),
        Route("/v1/responses/input_tokens", responses, methods=["POST"]),
        Route("/v1/responses/{id}", stored, methods=["GET", "DELETE"]),
        Route("/v1/responses/{id}/cancel", stored, methods=["POST"]),
        Route("/v1/responses/{id}/input_items", stored, methods=["GET"]),
        Route("/v1/models", Models(pool), methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        Route("/health/live", health, methods=["GET"]),
        Route("/health/ready", health, methods=["GET"]),
        Route("/metrics", MetricsPage(metrics), methods=["GET"]),
        Route("/openapi.json", OpenAPI(), methods=["GET"]),
        Route("/v1/{rest:path}", UnknownPath(guard, pool, server, metrics), methods=None),
    ]


class _Identified:
    """What the upstream keeps under an id."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _ID.match(scope["path_params"]["id"]):
            await self._relay(scope, receive, send)
        else:
            await answer_error(send, "openai.responses", 400, "invalid_id", "this is no response's id")
