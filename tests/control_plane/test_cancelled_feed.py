"""A feed that is cancelled in the middle of a piece: what was decided before leaves, in front of the end."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from luthien_guard import Guard, Limits, Policy, hookimpl
from luthien_guard.control_plane.service import StreamingContext
from luthien_guard.events import ContentChunk
from luthien_guard.exchange import OutcomeStatus, RequestMetadata
from luthien_guard.testing import WIRE_FORMATS, Script, render
from luthien_guard.testing.reading import read
from tests.engine.test_request import BODIES

pytestmark = pytest.mark.anyio


class Hangs(Policy):
    reached: Any = None

    @hookimpl
    async def on_content_chunk(self, chunk: ContentChunk) -> None:
        if chunk.text == "two ":
            type(self).reached.set()
            await anyio.sleep_forever()


@pytest.mark.parametrize("code", ["policy_timeout", "total_timeout"])
@pytest.mark.parametrize("wire_format", WIRE_FORMATS)
async def test_what_was_decided_before_leaves_and_the_end_is_legal(wire_format: str, code: str) -> None:
    Hangs.reached = anyio.Event()
    guard = Guard([Hangs()], limits=Limits(hook_timeout=0.001))
    await guard.plane.decide_request(RequestMetadata("c", 0.0), wire_format, BODIES[wire_format])
    stream = await guard.plane.open_stream(StreamingContext("c", wire_format, 200, True))
    body = render(Script().text("one ").text("two ").text("three"), wire_format, stream=True).body
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.feed, body)
        await Hangs.reached.wait()
        while stream.overdue() is None:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    release = await stream.fail(504, code, "late")
    left = read(release.data, wire_format, stream=True)
    assert (left.heard or left.text).startswith("one ")
    assert "two" not in left.heard + left.text
    assert code == "total_timeout" or not left.problems
    outcome = await guard.plane.close("c")
    assert outcome.status in (OutcomeStatus.POLICY_ERROR, OutcomeStatus.TIMEOUT)
