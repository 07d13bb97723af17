"""An exchange that is over is gone with it, without a garbage collection: a full one stops a busy server for as long as it
takes to look at everything, and cycles are what makes it due."""

from __future__ import annotations

import gc
from typing import Any

import anyio
import pytest

from luthien_guard import Abort, Block, Guard, GuardMiddleware, Policy, Retry, hookimpl
from luthien_guard.asgi.handle import ExchangeHandle
from luthien_guard.control_plane.service import RequestDecision
from tests.asgi.host import visit
from tests.asgi.test_with_guard import ASK, CALLS, saying

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


class Says(Policy):
    """The same about every call and every text, at once or later."""

    def __init__(self, verdict: Any = None, *, waits: bool = False, lookahead: int = 0) -> None:
        self.waits = waits
        self.lookahead = lookahead
        self._verdict = verdict

    async def _said(self) -> Any:
        if self.waits:
            await anyio.lowlevel.checkpoint()
        if isinstance(self._verdict, str):
            raise ValueError(self._verdict)
        return self._verdict

    @hookimpl
    async def on_content_chunk(self) -> Any:
        return await self._said()

    @hookimpl
    async def on_tool_call_completed(self) -> Any:
        return await self._said()


class Rewrites(Policy):
    @hookimpl
    def on_chunk_started(self, chunk: Any) -> Any:
        return chunk.replace(data={**chunk.data, "model": "n"}) if chunk.data else None


POLICIES: dict[str, list[Any]] = {
    "nobody": [],
    "reads": [Says()],
    "looks ahead": [Says(lookahead=20)],
    "waits": [Says(waits=True)],
    "waits and looks ahead": [Says(waits=True, lookahead=20)],
    "blocks": [Says(Block("no"))],
    "blocks later": [Says(Abort("no"), waits=True)],
    "asks again": [Says(Retry("no"), waits=True)],
    "fails": [Says("no")],
    "fails later": [Says("no", waits=True)],
    "in shadow": [{"use": Says(Block("no"), waits=True), "mode": "shadow"}],
    "rewrites chunks": [Rewrites(), Says()],
}


def alive() -> list[str]:
    """What there is for each exchange. Guards, their policies and the record of what happened stay; so does what an
    application may keep, in the context of a timer that asyncio drops some time after it was cancelled."""
    own = (
        "luthien_guard.asgi",
        "luthien_guard.pipeline",
        "luthien_guard.engine",
        "luthien_guard.control_plane",
    )
    found = [type(each) for each in gc.get_objects() if type(each) not in (ExchangeHandle, RequestDecision)]
    return sorted(
        f"{each.__module__}.{each.__qualname__}" for each in found if str(each.__module__).startswith(own)
    )


@pytest.mark.parametrize("policies", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("cut", [0, 1], ids=["whole", "cut off"])
async def test_nothing_of_an_exchange_waits_for_the_garbage_collector(policies: list[Any], cut: int) -> None:
    app = GuardMiddleware(saying(CALLS[: len(CALLS) - 2 * cut]), guard=Guard(policies))
    await visit(app, body=ASK)
    gc.collect()
    gc.disable()
    try:
        before = alive()
        for _ in range(3):
            await visit(app, body=ASK)
            await anyio.lowlevel.checkpoint()
        assert alive() == before
    finally:
        gc.enable()
