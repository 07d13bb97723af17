"""A decision that may hang: awaited while somebody looks at the clock."""

from __future__ import annotations

import asyncio  # noqa: TID251 - litellm runs on asyncio alone, and so does its client
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from luthien_guard.control_plane.service import GuardedStream, Release
from luthien_guard.engine.suspension import rest

__all__ = ["watched"]

T = TypeVar("T")

#: Seconds between two looks: how late an overdue hook may be noticed.
POLL: Final = 0.5


async def watched(stream: GuardedStream, work: Coroutine[Any, Any, T]) -> T | Release:
    """What `work` comes to; when a hook runs past its deadline, the stream's answer to that.

    Nearly always nothing waits: the first step is the last, and no timer was needed. One that is started later must not be
    a cancel scope, which would not nest with those that the work has entered by then.
    """
    try:
        first = work.send(None)
    except StopIteration as stop:
        done: T = stop.value
        return done
    look = _Look(stream)
    try:
        async with look.limit:
            return await rest(work, first)
    except TimeoutError:
        if not look.late:
            raise
    finally:
        look.timer.cancel()
    return await stream.fail(504, "policy_timeout", f"a policy took too long: {look.late}")


class _Look:
    """Looks every half second; ends the work by `limit` when a hook is overdue."""

    def __init__(self, stream: GuardedStream) -> None:
        self.limit = asyncio.timeout(None)
        self.late: str | None = None
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self.timer = self._loop.call_later(POLL, self._once)

    def _once(self) -> None:
        self.late = self._stream.overdue()
        if self.late is None:
            self.timer = self._loop.call_later(POLL, self._once)
        else:
            self.limit.reschedule(self._loop.time())
