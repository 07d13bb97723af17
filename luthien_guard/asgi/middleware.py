"""`GuardMiddleware`: pure ASGI, around any application."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from luthien_guard.asgi.client import Client
from luthien_guard.asgi.exchange import Exchange
from luthien_guard.asgi.headers import frozen
from luthien_guard.asgi.inner import SEAL, is_covered
from luthien_guard.asgi.lifespan import Lifespan, Start
from luthien_guard.asgi.request import ClientGone, NotHTTP, check_headers, read_body, resumes
from luthien_guard.asgi.routes import Route, Routes
from luthien_guard.asgi.types import AppGuard, ASGIApp, Headers, Receive, Scope, Send
from luthien_guard.asgi.websocket import REASON, deny
from luthien_guard.clock import clock_from
from luthien_guard.errors import ConfigError, MalformedBody, WireError
from luthien_guard.exchange import RequestMetadata

__all__ = ["POLICY_SET", "USER", "GuardMiddleware"]

#: Where in `scope["state"]` whoever authenticates further out says who asks, which then stands over what the request says...
USER: Final = "luthien_user"
#: ... and which of the guard's `policy_sets` are for this caller.
POLICY_SET: Final = "luthien_policy_set"
#: Methods whose requests may come without a body on a model route; their answers are policed like any other.
_BODILESS = ("GET", "HEAD", "OPTIONS", "DELETE")


class _NotCanonical(WireError):
    code = "path_not_canonical"


class _Uninspectable(WireError):
    code = "uninspectable_request"


class GuardMiddleware:
    """Puts a guard around `app`.

    Guarded are the paths that end in `/chat/completions`, `/messages` and `/responses` (wherever they are mounted), what
    lies below them, and `routes`: exact paths with the wire format that they speak. A path that `routes` maps to None is
    left alone. Everything else passes untouched and unbuffered. Raises ConfigError for an unknown wire format,
    what is no exact path, and what is no guard.

    Add it so that compressing middleware is outside of it: what is compressed inside has to be undone first.
    """

    def __init__(
        self, app: ASGIApp, *, guard: AppGuard, routes: Mapping[str, str | None] | None = None
    ) -> None:
        if not hasattr(guard, "plane"):
            raise ConfigError(f"guard is a {type(guard).__name__}: give a Guard(...)")
        self.app = app
        self.guard = guard
        self._routes = Routes(guard.formats, routes)
        self._clock = clock_from(guard.clock)
        self._now = guard.clock
        self._start = Start(guard)
        # Whether a policy looked at the last answer: what the next exchange prepares for.
        self._covered = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await Lifespan(self.app, self._start).run(scope, receive, send)
            return
        route = self._routes.match(scope) if kind in ("http", "websocket") else None
        if route is None or (SEAL in scope and is_covered(scope, self.guard, route.wire_format)):
            await self.app(scope, receive, send)
            return
        if not self.guard.running:
            await self._start()
        if kind != "http":
            await self._denied(scope, receive, send, route)
        elif (exchange := await self._begun(scope, receive, send, route)) is not None:
            try:
                await exchange.run(watched=self._covered)
            finally:
                self._covered = exchange.covered

    async def _begun(self, scope: Scope, receive: Receive, send: Send, route: Route) -> Exchange | None:
        """An exchange whose request is whole; None where there is nothing to decide."""
        began = self._now()
        headers = frozen(scope["headers"])
        metadata = self._metadata(scope, headers)
        client = Client(receive, send, metadata.call_id, method=scope["method"])
        try:
            encoding = self._admitted(scope, route, headers)
            body = await read_body(receive, encoding, self.guard.limits, self._clock, began)
            if not body and route.exact and scope["method"] not in _BODILESS:
                raise MalformedBody("the request has no body")
        except ClientGone:
            return None
        except WireError as error:
            plane = self.guard.plane
            await client.answer(
                plane.reject(metadata, route.wire_format, error.status, error.code, str(error))
            )
            return None
        return Exchange(
            self.app,
            self.guard,
            self._clock,
            began,
            scope,
            client,
            metadata,
            route.wire_format,
            headers,
            body,
        )

    def _metadata(self, scope: Scope, headers: Headers) -> RequestMetadata:
        metadata = self.guard.callers.metadata(headers, scope["path"])
        if state := scope.get("state"):
            if policy_set := state.get(POLICY_SET):
                metadata = replace(metadata, policy_set=policy_set)
            if (user := state.get(USER)) is not None:
                metadata = replace(metadata, user_id=str(user))
        if (query := scope.get("query_string")) and resumes(query):
            metadata = replace(metadata, resumes=True)
        return metadata

    def _admitted(self, scope: Scope, route: Route, headers: Headers) -> list[str]:
        """The layers of content encoding, of what may come in at all."""
        if route.refusal is not None:
            raise _NotCanonical(route.refusal)
        if route.bundle and scope["method"] not in _BODILESS:
            raise _Uninspectable("a batch of requests cannot be put under policy: send them one by one")
        return check_headers(headers, self.guard.limits)

    async def _denied(self, scope: Scope, receive: Receive, send: Send, route: Route) -> None:
        headers = frozen(scope["headers"])
        metadata = self._metadata(scope, headers)
        plane = self.guard.plane
        answer = plane.reject(metadata, route.wire_format, NotHTTP.status, NotHTTP.code, REASON)
        await deny(scope, receive, send, answer)
