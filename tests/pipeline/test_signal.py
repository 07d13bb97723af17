"""A signal is an event, whenever somebody comes to wait for it."""

from __future__ import annotations

import anyio
import pytest

from luthien_guard.pipeline import Signal
from luthien_guard.testing.clock import VirtualClock

pytestmark = pytest.mark.anyio


async def test_who_waits_hears_it_and_so_does_who_comes_later() -> None:
    signal, clock, heard = Signal(), VirtualClock(), list[str]()

    async def wait(name: str) -> None:
        await signal.wait()
        heard.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "first")
        tasks.start_soon(wait, "second")
        await clock.rest()
        assert heard == []
        signal.set()
        signal.set()
    await wait("late")
    assert sorted(heard[:2]) == ["first", "second"]
    assert heard[2:] == ["late"]
