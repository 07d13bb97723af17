"""Asking litellm for the next chunk, while somebody looks at the clock.

Whoever asks makes the first step by hand: it is the last one where upstream is ahead, and then no limit was needed.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - litellm runs on asyncio alone, and so does its client
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from luthien_guard.client.exchange import ClientExchange
from luthien_guard.engine.suspension import rest
from luthien_guard.pipeline import Limit, in_time, limit, rest_before

__all__ = ["Asking"]


class Asking:
    """One of litellm's streams, chunk by chunk. `next` begins the next one, `rest_of` waits for it, and raises OutOfTime where
    upstream is silent for too long."""

    __slots__ = ("_ends", "_exchange", "next")

    def __init__(self, exchange: ClientExchange, inner: Any) -> None:
        self._exchange = exchange
        self._ends: Limit | None = None  # of the task that asked last
        self.next: Callable[[], Coroutine[Any, Any, Any]]
        if not exchange.real_time:
            self.next = partial(_in_time, exchange, inner)
        elif iscoroutinefunction(getattr(inner, "__anext__", None)):
            self.next = inner.__anext__
        else:
            self.next = partial(_awaited, inner)

    def rest_of(self, work: Coroutine[Any, Any, Any], first: object) -> Awaitable[Any]:
        """The chunk of `work`, whose first step gave `first`."""
        if not self._exchange.real_time:
            return rest(work, first)
        seconds, task, ends = self._exchange.patience(), asyncio.current_task(), self._ends
        assert task is not None
        if ends is None or ends.task is not task:
            ends = self._ends = limit(task, seconds)
        else:
            ends.begin(seconds)
        return rest_before(ends, work, first)


async def _in_time(exchange: ClientExchange, inner: Any) -> Any:
    return await in_time(exchange.clock, exchange.clock() + exchange.patience(), _awaited(inner))


async def _awaited(inner: Any) -> Any:
    return await inner.__anext__()
