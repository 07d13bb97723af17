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
    found: list[Release] = []
    errors: list[BaseException] = []

    async def look() -> None:
        while (late := stream.overdue()) is None:
            with clock.until(clock() + POLL):
                await anyio.sleep_forever()
        # before the hook is cancelled: after it the stream could not tell whose fault it was
        found.append(await stream.fail(504, "policy_timeout", f"a policy took too long: {late}"))
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        try:
            release = await work()
            if not found:
                found.append(release)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as raised:  # noqa: BLE001 - raised again outside: the task group would wrap it
            errors.append(raised)
        tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]
    return found[0]
