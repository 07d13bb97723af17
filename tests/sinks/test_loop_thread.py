"""The loop of the drivers: beside the application's, whichever that is."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import CancelledError

import anyio
import pytest
from anyio.to_thread import run_sync

from luthien_guard.sinks.loop_thread import LoopThread

pytestmark = pytest.mark.anyio

FORGETS = """
import anyio
from luthien_guard.errors import SinkError
from luthien_guard.gateway.shared.pace import pace_of
from luthien_guard.gateway.shared.urls import open_shared

async def main():
    for url in ("redis://127.0.0.1:1", "postgresql://127.0.0.1:1/x"):
        try:
            await open_shared(url).take("a", pace_of(1))
        except SinkError:
            print("away")

anyio.run(main)
"""


async def named() -> str:
    return threading.current_thread().name


async def fails() -> None:
    raise LookupError("x")


async def test_it_runs_there_and_is_awaited_here() -> None:
    loop = LoopThread("there", wakes=True)
    assert not loop.running
    assert await loop.awaited(named) == "there"
    assert await run_sync(loop.call, named) == "there"
    with pytest.raises(LookupError):
        await loop.awaited(fails)
    await run_sync(loop.stop)
    assert not loop.running


async def test_cancelling_here_does_not_cancel_there() -> None:
    loop, began, go, ended = (
        LoopThread("there", wakes=True),
        threading.Event(),
        threading.Event(),
        threading.Event(),
    )

    async def work() -> None:
        began.set()
        await run_sync(go.wait)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loop.awaited, work)
        await run_sync(began.wait)
        tasks.cancel_scope.cancel()
    go.set()
    await run_sync(ended.wait)
    await run_sync(loop.stop)


async def test_stopping_cancels_what_runs_there_and_it_starts_again() -> None:
    loop, began, found = LoopThread("there", wakes=True), threading.Event(), list[str]()

    async def work() -> None:
        loop.beside(beside)
        began.set()
        await anyio.sleep_forever()

    async def beside() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            found.append("beside")

    async def asks() -> None:
        with pytest.raises(CancelledError):
            await loop.awaited(work)
        found.append("asked")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asks)
        await run_sync(began.wait)
        await run_sync(loop.stop)
        await run_sync(loop.stop)
    assert sorted(found) == ["asked", "beside"]
    assert await loop.awaited(named) == "there"
    await run_sync(loop.stop)


def test_who_forgets_to_close_a_service_can_still_end() -> None:
    found = subprocess.run(
        [sys.executable, "-c", FORGETS], check=True, capture_output=True, text=True, timeout=60
    )
    assert (found.stdout, found.stderr) == ("away\naway\n", "")


async def test_one_that_is_to_be_opened_answers_nobody_before_and_after() -> None:
    loop = LoopThread("there")
    with pytest.raises(RuntimeError, match="not open"):
        await loop.awaited(named)
    await run_sync(loop.start)
    await run_sync(loop.start)
    assert await loop.awaited(named) == "there"
    await run_sync(loop.stop)
    with pytest.raises(RuntimeError, match="not open"):
        await run_sync(loop.call, named)


async def test_a_promise_can_be_cancelled() -> None:
    loop, began, ended = LoopThread("there", wakes=True), threading.Event(), threading.Event()

    async def work() -> None:
        try:
            began.set()
            await anyio.sleep_forever()
        finally:
            ended.set()

    promise = loop.promised(work)
    await run_sync(began.wait)
    promise.cancel()
    await run_sync(ended.wait)
    await run_sync(loop.stop)
