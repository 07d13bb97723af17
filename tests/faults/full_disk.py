"""A file that may not grow any more, as on a full disk: `python -m tests.faults.full_disk FOLDER`. In a process of its own,
because the limit is the process's."""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import anyio

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.delivery.storage import Storage
from tests.asgi_drive import ask, replay
from tests.faults.killed import REQUEST, STREAM, NoCalls

ROOM = 300_000  # bytes


async def _statuses(app: GuardMiddleware, until: int, most: int = 300) -> list[int]:
    found: list[int] = []
    while len(found) < most and (not found or found[-1] != until):
        reply = await ask(app, "/v1/chat/completions", REQUEST)
        found.append(reply.status)
        if reply.status == 503:
            assert "could not be recorded" in json.loads(reply.body)["error"]["message"]
    return found


async def main(folder: Path) -> None:
    guard = Guard([NoCalls()], store=f"sqlite:///{folder}/g.db", durability="strict")
    storage = guard.storage
    assert isinstance(storage, Storage)
    storage.journal.patience = 0.5
    app = GuardMiddleware(replay(b"".join(STREAM), status=200, content_type="text/event-stream"), guard=guard)
    result: dict[str, Any] = {}
    async with guard:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, most))
        result["full"] = await _statuses(app, 503)
        result["health"] = dict(guard.health)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        result["again"] = await _statuses(app, 200, most=50)
    ledger = guard.ledger()
    async with Guard(store=f"sqlite:///{folder}/g.db") as reader:
        result["broken"] = [str(each) for each in await reader.query.verify()]
        result["events"] = (await reader.query.stats())["events"]
    result["ledger"] = dict(ledger)
    print(json.dumps(result))


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error to who writes, not the end of the process
    anyio.run(main, Path(sys.argv[1]))
