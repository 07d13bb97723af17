"""A coroutine whose first step was made by hand goes on exactly as an awaited one would."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import anyio
import pytest

from luthien_guard.engine.suspension import rest

pytestmark = pytest.mark.anyio


async def finished(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, bool]:
    """(result, whether it waited)"""
    try:
        first = coroutine.send(None)
    except StopIteration as stop:
        return stop.value, False
    return await rest(coroutine, first), True


async def test_what_does_not_wait_is_done_in_its_first_step() -> None:
    async def quick() -> int:
        return 3

    assert await finished(quick()) == (3, False)


async def test_what_waits_gets_every_further_step() -> None:
    async def slow() -> str:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        event = anyio.Event()
        event.set()
        await event.wait()
        return "done"

    assert await finished(slow()) == ("done", True)


async def test_errors_come_out() -> None:
    async def failing() -> None:
        await anyio.lowlevel.checkpoint()
        raise LookupError("as it was")

    with pytest.raises(LookupError, match="as it was"):
        await finished(failing())


async def test_cancellation_goes_in_and_finalisers_run() -> None:
    seen = []

    async def patient() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("finally")

    with anyio.CancelScope() as scope:
        scope.cancel()
        await finished(patient())
    assert scope.cancelled_caught
    assert seen == ["finally"]


async def test_a_coroutine_may_catch_what_is_thrown_and_go_on() -> None:
    async def stubborn() -> str:
        try:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.sleep_forever()
        finally:
            pass
        return "went on"

    assert await finished(stubborn()) == ("went on", True)
