"""`GET /v1/models`: what the configured upstreams say that they have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import anyio

from luthien_guard.asgi.types import Receive, Scope, Send
from luthien_guard.gateway.relay import call_of
from luthien_guard.gateway.upstreams import Upstreams
from luthien_guard.gateway.upstreams.native import NativeUpstream
from luthien_guard.gateway.upstreams.types import Call, Upstream, UpstreamError

__all__ = ["Models"]

_PATIENCE = 10.0  # seconds for all upstreams together


class Models:
    """Asks every upstream at once; one that fails is left out and named in `x-luthien-incomplete`."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._upstreams.start()
        # an Anthropic client says its version, and gets the list in its own shape
        anthropic = any(name == b"anthropic-version" for name, _ in scope["headers"])
        found, missing = await self._asked(scope, anthropic)
        body = json.dumps(_listing(found, anthropic)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if missing:
            headers.append((b"x-luthien-incomplete", ",".join(missing).encode("latin-1", "replace")))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _asked(self, scope: Scope, anthropic: bool) -> tuple[list[Mapping[str, Any]], list[str]]:
        answers: dict[str, list[Mapping[str, Any]]] = {}
        call = call_of(scope, "anthropic.messages" if anthropic else "openai.chat", b"")
        asked = self._askable(call)

        async def ask(upstream: Upstream) -> None:
            try:
                answers[upstream.name] = list(await upstream.models(call))
            except UpstreamError:
                return

        with anyio.move_on_after(_PATIENCE):
            async with anyio.create_task_group() as tasks:
                for each in asked:
                    tasks.start_soon(ask, each)
        unique: dict[str, Mapping[str, Any]] = {}
        for each in asked:
            for model in answers.get(each.name, ()):
                unique.setdefault(str(model.get("id")), model)
        return list(unique.values()), [each.name for each in asked if each.name not in answers]

    def _askable(self, call: Call) -> list[Upstream]:
        """Those that need no credential of the caller's; and the one provider that it is for."""
        own = next((each for each in self._upstreams.all if _asks_caller(each) and each.speaks(call)), None)
        return [each for each in self._upstreams.all if each is own or not _asks_caller(each)]


def _asks_caller(upstream: Upstream) -> bool:
    return isinstance(upstream, NativeUpstream) and not upstream.has_own_key


def _listing(found: list[Mapping[str, Any]], anthropic: bool) -> dict[str, Any]:
    if not anthropic:
        return {"object": "list", "data": [_openai(each) for each in found]}
    data = [_anthropic(each) for each in found]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"data": data, "has_more": False, **ends}


def _openai(model: Mapping[str, Any]) -> dict[str, Any]:
    if model.get("object") == "model":
        return dict(model)
    return {"id": model["id"], "object": "model", "created": 0, "owned_by": "upstream"}


def _anthropic(model: Mapping[str, Any]) -> dict[str, Any]:
    if model.get("type") == "model":
        return dict(model)
    return {
        "type": "model",
        "id": model["id"],
        "display_name": model["id"],
        "created_at": "1970-01-01T00:00:00Z",
    }
