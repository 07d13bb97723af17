"""A decision that may hang: awaited while somebody looks at the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from luthien_guard.clock import Clock
from luthien_guard.control_plane.service import GuardedStream, Release

__all__ = ["watched"]

#: Seconds between two looks: how late an overdue hook may be noticed.
POLL: Final = 0.5


async def watched(stream: GuardedStream, clock: Clock, work: Callable[[], Awaitable[Release]]) -> Release:
    """The release of `work()`; when a hook runs past its deadline, the stream's answer to that."""
    release: Release | None = None
    error: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(_look, stream, clock, scope)
            try:
                release = await work()
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as raised:  # noqa: BLE001 - raised again: the task group would wrap it
                error = raised
        tasks.cancel_scope.cancel()
    if error is not None:
        raise error
    if release is None:
        return await stream.fail(504, "policy_timeout", f"a policy took too long: {stream.overdue()}")
    return release


async def _look(stream: GuardedStream, clock: Clock, scope: anyio.CancelScope) -> None:
    while stream.overdue() is None:
        with clock.until(clock() + POLL):
            await anyio.sleep_forever()
    scope.cancel()
