"""Who waits beside the work: for the client's end, and for the end of patience."""

from __future__ import annotations

import asyncio  # noqa: TID251 -- what is tested is how its tasks are cancelled
import socket
from typing import Any

import anyio
import pytest

from luthien_guard import Limits
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway.metrics import Metrics
from luthien_guard.gateway.relay import Relay
from luthien_guard.gateway.upstreams import Upstreams
from luthien_guard.gateway.upstreams.types import Call, Reply, Upstream
from luthien_guard.gateway.vigil import kept

pytestmark = pytest.mark.anyio


async def forever() -> dict[str, str]:
    await anyio.sleep_forever()
    raise AssertionError


async def work_that_is_cancelled(seen: list[str]) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        seen.append("ended")


async def test_work_that_ends_is_not_disturbed() -> None:
    seen: list[str] = []

    async def work(_: anyio.CancelScope) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append("done")

    assert await kept(work, forever, lambda: 60.0, 60.0)
    assert seen == ["done"]


async def test_the_client_s_end_ends_the_work() -> None:
    seen: list[str] = []
    messages = iter(("http.request", "http.disconnect"))

    async def receive() -> dict[str, str]:
        return {"type": next(messages)}

    assert await kept(lambda _: work_that_is_cancelled(seen), receive, lambda: 60.0, 60.0)
    assert seen == ["ended"]


async def test_the_end_of_patience_ends_the_work() -> None:
    seen: list[str] = []
    left = iter((0.02, 0.01, 0.01))
    assert not await kept(lambda _: work_that_is_cancelled(seen), forever, lambda: next(left, 0.0), 60.0)
    assert seen == ["ended"]


async def test_patience_that_shrinks_is_seen_in_time() -> None:
    seen: list[str] = []
    left = iter((3600.0, 3600.0))
    with anyio.fail_after(30):
        assert not await kept(lambda _: work_that_is_cancelled(seen), forever, lambda: next(left, 0.0), 0.01)
    assert seen == ["ended"]


async def test_what_the_work_raises_comes_out() -> None:
    async def work(_: anyio.CancelScope) -> None:
        raise ValueError("no")

    with pytest.raises((ValueError, ExceptionGroup)):
        await kept(work, forever, lambda: 60.0, 60.0)


async def test_it_ends_with_the_scope_around_it() -> None:
    seen: list[str] = []
    with anyio.move_on_after(0.1) as scope:
        await kept(lambda _: work_that_is_cancelled(seen), forever, lambda: 60.0, 60.0)
    assert scope.cancelled_caught and seen == ["ended"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_server_that_cannot_say_who_is_there_has_nobody() -> None:
    seen: list[str] = []

    async def receive() -> dict[str, str]:
        raise RuntimeError("closed")

    assert await kept(lambda _: work_that_is_cancelled(seen), receive, lambda: 60.0, 60.0)
    assert seen == ["ended"]


class Flood:
    """An upstream's answer of which there is more at every turn of the loop: whoever waits for it goes on in the next. The
    client leaves when it has been listened for."""

    stream, status, headers = True, 200, list[tuple[bytes, bytes]]()

    def __init__(self, pieces: int) -> None:
        self.left = pieces
        self.asked = False
        self._loop = asyncio.get_running_loop()
        self._waits: list[asyncio.Future[None]] = []
        self._ends = socket.socketpair()
        self._ends[1].send(b"x")  # there is something to read from now on
        self._loop.add_reader(self._ends[0], self._go_on)

    async def read(self) -> bytes:
        await self._turn()
        self.left -= 1
        return b"piece" if self.left else b""

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request"}
        await self._turn(first=True)
        return {"type": "http.disconnect"}

    async def aclose(self) -> None:
        self._loop.remove_reader(self._ends[0])
        for each in self._ends:
            each.close()

    async def _turn(self, *, first: bool = False) -> None:
        wait = self._loop.create_future()
        self._waits.insert(0 if first else len(self._waits), wait)
        await wait

    def _go_on(self) -> None:
        while self._waits:
            self._waits.pop(0).set_result(None)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_left_is_not_served_on_from_an_upstream_that_never_lets_anybody_wait() -> None:
    settings = UpstreamSettings(native="openai.chat")
    flood = Flood(100_000)

    class Flooding(Upstreams):
        async def start(self) -> None: ...

        async def ask(self, call: Call) -> tuple[Upstream, Reply]:
            return self.all[0], flood

    async def send(message: Any) -> None: ...

    relay = Relay(
        "openai.chat",
        Flooding([settings], Limits()),
        Limits(),
        Metrics(enabled=False),
        redact=str,
        unseen=True,
    )
    scope = {"type": "http", "method": "POST", "path": "/v1/files", "headers": []}
    await relay(scope, flood.receive, send)
    assert flood.left
