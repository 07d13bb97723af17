"""What was stored is told to who listens, by id."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.errors import ConfigError
from tests.asgi_drive import ask, replay
from tests.faults.killed import REQUEST, STREAM

pytestmark = pytest.mark.anyio


async def test_a_subscriber_hears_of_every_fact_of_a_call(tmp_path: Path) -> None:
    guard = Guard(store=f"sqlite:///{tmp_path}/g.db")
    app = GuardMiddleware(replay(b"".join(STREAM), status=200, content_type="text/event-stream"), guard=guard)
    with anyio.fail_after(30):
        async with guard, guard.hub.subscribe() as notices:
            reply = await ask(app, "/v1/chat/completions", REQUEST)
            heard = []
            async for notice in notices:
                heard.append(notice)
                if notice.event_type == "exchange.closed":
                    break
            rows = await guard.query.events(heard[0].call_id)
    assert heard[0].call_id == reply.header("x-luthien-call-id")
    assert [(each.seq, each.event_type) for each in heard] == [(row.seq, row.event_type) for row in rows]


async def test_a_guard_without_a_store_has_nothing_to_tell() -> None:
    with pytest.raises(ConfigError, match="no hub"):
        _ = Guard().hub
