"""Any provider that litellm reaches, in any client's wire format. The middleware has decided the request already, so
litellm is called bare.

A request that its provider would take as it is goes there natively: litellm's own way would parse and rebuild it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import anyio

from luthien_guard.client.dialects import CHAT, MESSAGES, RESPONSES, Dialect
from luthien_guard.client.litellm_api import litellm, needs_asyncio
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.gateway.upstreams.arguments import Arguments
from luthien_guard.gateway.upstreams.conversion import dropped_fields
from luthien_guard.gateway.upstreams.direct import Direct
from luthien_guard.gateway.upstreams.headers import for_client
from luthien_guard.gateway.upstreams.litellm_errors import failure_of
from luthien_guard.gateway.upstreams.litellm_stream import LitellmStream
from luthien_guard.gateway.upstreams.match import Match
from luthien_guard.gateway.upstreams.names import is_name
from luthien_guard.gateway.upstreams.native import origin_of
from luthien_guard.gateway.upstreams.providers import Ambient
from luthien_guard.gateway.upstreams.sent import Sent
from luthien_guard.gateway.upstreams.staying import staying
from luthien_guard.gateway.upstreams.types import Call, HeaderList, Reply, UpstreamError, WholeReply
from luthien_guard.limits import Limits

__all__ = ["LitellmUpstream"]

_DIALECTS: Final[Mapping[str, Dialect]] = {each.wire_format: each for each in (CHAT, MESSAGES, RESPONSES)}
_PATHS: Final = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
_DROPPED: Final = b"x-luthien-dropped"


class LitellmUpstream:
    """`litellm: {...}` holds further arguments of litellm's functions, for every call."""

    def __init__(self, settings: UpstreamSettings, name: str, limits: Limits) -> None:
        self.name = name
        self.fallback: Sequence[str] = tuple(settings.fallback)
        self.retries = settings.retries
        self._match = Match(settings.match)
        self._settings = settings
        self._arguments = Arguments(settings, name)
        self._ambient = Ambient(settings)
        self._direct = Direct(settings, name, limits)

    @property
    def origins(self) -> frozenset[str] | None:
        base_url = self._settings.base_url
        return None if base_url is None else frozenset({origin_of(base_url)})

    def needs_caller(self, call: Call) -> bool:
        return not self._arguments.has_credential_for(replace(call, forwards_credential=False))

    def speaks(self, call: Call) -> bool:
        return call.method == "POST" and call.path in _PATHS

    def serves(self, call: Call) -> bool:
        return self.speaks(call) and self._match(call.model)

    async def start(self) -> None:
        """litellm itself is imported by the first request: it takes seconds, and many gateways never need it."""
        try:
            needs_asyncio()
        except RuntimeError as error:
            raise ConfigError(f"upstream {self.name}: {error}") from None

    async def stop(self) -> None:
        await self._direct.stop()
        if _is_loaded():
            await litellm().close_litellm_async_clients()  # it keeps its connections for all of the process

    async def models(self, call: Call) -> Sequence[Mapping[str, Any]]:
        return [{"id": each} for each in self._match.patterns if not set("*?[") & set(each)]

    async def ask(self, call: Call) -> Reply:
        if not call.model or (self._settings.model is None and not is_name(call.model)):
            raise UpstreamError(
                400, "invalid_model", "the request names no model that can be asked for", again=False
            )
        if not self._arguments.has_credential_for(call):
            raise UpstreamError(
                401, "missing_credential", "the request carries no credential to ask with", again=False
            )
        if (direct := self._direct.taken(call)) is not None:
            upstream, native = direct
            return await upstream.ask(native)
        dialect = _DIALECTS[call.wire_format]
        if not _is_loaded():
            await anyio.to_thread.run_sync(litellm)
        given, unknown = self._arguments.of(call)
        with Sent() as sent, staying():
            self._ambient.check(call, given)
            answer = await _asked(dialect, given)
            if not hasattr(answer, "__anext__"):
                headers = _noted(call, unknown, sent, _headers(answer))
                return WholeReply(200, headers, dialect.json(answer))
            stream = LitellmStream(dialect, answer, call)
            await stream.begin()
        stream.headers += _noted(call, unknown, sent, _headers(answer))
        return stream


async def _asked(dialect: Dialect, given: dict[str, Any]) -> Any:
    try:
        return await dialect.call(given)
    except Exception as error:
        raise failure_of(error) from error


def _noted(call: Call, unknown: Sequence[str], sent: Sent, headers: HeaderList) -> HeaderList:
    """Say which fields did not arrive: in the record and to the client."""
    lost = sorted({*unknown, *(dropped_fields(sent.given(call), sent.body) if sent.body is not None else ())})
    if not lost:
        return headers
    call.record("upstream.dropped", fields=lost)
    value = ", ".join(lost).encode("ascii", "replace")[:1000]
    return [*headers, (_DROPPED, value)]


def _headers(answer: Any) -> HeaderList:
    """The provider's request ids and rate limits, which litellm keeps under a prefix."""
    notes = getattr(answer, "_hidden_params", None)
    found = notes.get("additional_headers") if isinstance(notes, dict) else None
    pairs = found.items() if isinstance(found, dict) else ()
    kept = [
        (
            str(name).removeprefix("llm_provider-").encode("latin-1", "replace"),
            str(value).encode("latin-1", "replace"),
        )
        for name, value in pairs
        if str(name).startswith("llm_provider-")
    ]
    return [pair for pair in for_client(kept) if pair[0] != b"content-type"]


def _is_loaded() -> bool:
    return litellm.cache_info().currsize > 0
