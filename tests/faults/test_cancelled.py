"""Ten thousand exchanges cancelled wherever they are: each has one end on record and a whole chain, no row of one stands
in another, and the store's connection is as good as new."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import anyio
import pytest

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.query.audit import verify
from luthien_guard.sinks.postgresql import PostgresStore
from luthien_guard.store import CallFilter
from tests.asgi_drive import ask
from tests.faults.killed import STREAM, NoCalls

pytestmark = pytest.mark.anyio

COUNT = 5_000  # on each of the two event loops
AT_ONCE = 50


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in STREAM:
        await anyio.lowlevel.checkpoint()
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def test_cancellation_leaves_nothing_half_done(database: str, tmp_path: Path) -> None:
    guard = Guard([NoCalls()], store=PostgresStore(database), data=tmp_path)
    app = GuardMiddleware(upstream, guard=guard)
    chance = random.Random(7)

    async def exchange(number: int) -> None:
        body = json.dumps({"model": f"m{number}", "stream": True, "messages": []}).encode()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def ends() -> None:
                    for _ in range(chance.randint(0, 25)):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                tasks.start_soon(ends)
                await ask(app, "/v1/chat/completions", body, headers=[(b"x-session-id", b"s%d" % number)])

    async with guard:
        for begin in range(0, COUNT, AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for number in range(begin, begin + AT_ONCE):
                    tasks.start_soon(exchange, number)
    ledger = guard.ledger()
    assert (ledger["dropped"], ledger["conflicts"]) == (0, 0)
    assert ledger["accepted"] == ledger["stored"] + ledger["spooled"]
    await anyio.to_thread.run_sync(_look, database)


def _look(url: str) -> None:
    store = PostgresStore(url)
    store.open()
    try:
        assert list(verify(store)) == []
        calls = store.calls(CallFilter(limit=COUNT + 1))
        assert all(call.ended_at for call in calls)
        for call in calls:
            assert call.model is None or call.session_id == "s" + call.model[1:], (
                "no fact of another exchange"
            )
        assert {call.outcome for call in calls} <= {"cancelled", "success", "blocked"}
    finally:
        store.close()
