"""Asking for the next chunk, and for how long."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- its tasks are the subject
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from luthien_guard.client.asking import Asking
from luthien_guard.clock import OutOfTime

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Exchange:
    """One that has so many seconds for each chunk."""

    real_time = True

    def __init__(self, *patience: float) -> None:
        self._patience = iter(patience)

    def patience(self) -> float:
        return next(self._patience)


class Slow:
    """Each of its chunks has to be waited for; after the last there is silence."""

    def __init__(self, chunks: int) -> None:
        self._left = chunks

    async def __anext__(self) -> str:
        await checkpoint()
        self._left -= 1
        if self._left < 0:
            await asyncio.get_running_loop().create_future()
        return "chunk"


class Wrapped:
    """What asks its stream in a way of its own."""

    def __init__(self, inner: Slow) -> None:
        self._inner = inner

    def __anext__(self) -> Any:
        return self._inner.__anext__()


async def next_of(asking: Asking) -> Any:
    work = asking.next()
    return await asking.rest_of(work, work.send(None))


@pytest.mark.parametrize("kind", [Slow, lambda chunks: Wrapped(Slow(chunks))])
@pytest.mark.parametrize("in_one_task", [False, True])
async def test_silence_after_chunks_that_were_waited_for(kind: Any, in_one_task: bool) -> None:
    exchange: Any = Exchange(3600, 3600, -1, 3600)
    asking = Asking(exchange, kind(2))

    async def ask() -> Any:
        if in_one_task:
            return await next_of(asking)
        return await asyncio.create_task(next_of(asking))

    async with asyncio.timeout(10):
        assert [await ask(), await ask()] == ["chunk", "chunk"]
        with pytest.raises(OutOfTime):
            await ask()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
