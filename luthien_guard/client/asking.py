"""Asking litellm for the next chunk, while somebody looks at the clock.

Whoever asks makes the first step by hand: it is the last one where upstream is ahead, and then no limit was needed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from luthien_guard.client.exchange import ClientExchange
from luthien_guard.engine.suspension import rest
from luthien_guard.pipeline import OutOfTime, in_time, rest_in_time

__all__ = ["asking", "rest_of"]


def asking(exchange: ClientExchange, inner: Any) -> Callable[[], Coroutine[Any, Any, Any]]:
    """What asks one of litellm's streams for its next chunk: its own method where that can be stepped and limited from
    outside."""
    if not exchange.real_time:
        return partial(_in_time, exchange, inner)
    if iscoroutinefunction(getattr(inner, "__anext__", None)):
        its_own: Callable[[], Coroutine[Any, Any, Any]] = inner.__anext__
        return its_own
    return partial(_awaited, inner)


async def _in_time(exchange: ClientExchange, inner: Any) -> Any:
    try:
        return await in_time(exchange.clock, exchange.wake_at(), _awaited(inner))
    except OutOfTime:
        raise await exchange.silent() from None


async def _awaited(inner: Any) -> Any:
    return await inner.__anext__()


async def rest_of(work: Coroutine[Any, Any, Any], first: object, exchange: ClientExchange) -> Any:
    """The chunk of `work`, whose first step gave `first`. Raises what the exchange says where upstream is silent for too
    long."""
    if not exchange.real_time:
        return await rest(work, first)
    try:
        return await rest_in_time(exchange.clock, exchange.wake_at(), work, first)
    except OutOfTime:
        raise await exchange.silent() from None
