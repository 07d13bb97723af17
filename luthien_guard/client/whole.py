"""An answer that is not streamed."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from luthien_guard.client.exchange import ClientExchange, error_message
from luthien_guard.client.watch import watched
from luthien_guard.control_plane.service import Answer, GuardedStream, Release

__all__ = ["refused", "whole"]

Items: TypeAlias = "list[tuple[bytes, int | None]]"


async def whole(exchange: ClientExchange, original: Any) -> Any:
    """litellm's object for its answer `original`: that itself where nothing was changed."""
    while True:
        if not exchange.covered:
            await exchange.close()
            return original
        stream = await exchange.open(stream=False)
        said = exchange.dialect.json(original)
        release, items = await _decided(stream, said)
        if release.retry is None:
            return await _released(exchange, items, release, original, said)
        exchange.again(release.retry)
        original = await exchange.ask()


async def _decided(stream: GuardedStream, raw: bytes) -> tuple[Release, Items]:
    release = await watched(stream, stream.feed(raw, last=True))
    items = list(release.items)
    while release.pending and not release.done:
        release = await watched(stream, stream.settle())
        items += release.items
    return release, items


async def _released(
    exchange: ClientExchange, items: Items, release: Release, original: Any, said: bytes
) -> Any:
    await exchange.close_or_raise(release.answer)
    if release.answer is not None:
        items = [(release.answer.body, None)]
    if items and all(source is not None for _, source in items):
        return original
    return _answered(exchange, b"".join([raw for raw, _ in items]), original, said)


async def refused(exchange: ClientExchange, answer: Answer) -> Any:
    """litellm's object for an answer of the guard's own."""
    await exchange.close_or_raise(answer)
    return _answered(exchange, answer.body, None, b"")


def _answered(exchange: ClientExchange, raw: bytes, original: Any, said: bytes) -> Any:
    data = json.loads(raw) if raw else {}
    if not data.keys() & {"choices", "output", "content"}:
        raise exchange.api_error(502, error_message(data) or "the guard released no answer")
    return exchange.dialect.answer(data, original, said)
