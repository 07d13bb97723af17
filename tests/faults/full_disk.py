"""A disk that is full: `python -m tests.faults.full_disk FOLDER tmpfs` where FOLDER is a small file system of its own, else
`... FOLDER limit`, files that may not grow any more. In a process of its own, because limit and mount are the process's."""

from __future__ import annotations

import json
import resource
import shutil
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


class Limit:
    """No file of this process may grow."""

    def full(self) -> None:
        _, self._most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, self._most))

    def empty(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._most, self._most))


class Filled:
    """The rest of the disk is taken by somebody else."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "filler"

    def full(self) -> None:
        left = shutil.disk_usage(self._file.parent).free - ROOM
        self._file.write_bytes(bytes(left))

    def empty(self) -> None:
        self._file.unlink()


async def _statuses(app: GuardMiddleware, until: int, most: int = 300) -> list[int]:
    found: list[int] = []
    while len(found) < most and (not found or found[-1] != until):
        reply = await ask(app, "/v1/chat/completions", REQUEST)
        found.append(reply.status)
        if reply.status == 503:
            assert "could not be recorded" in json.loads(reply.body)["error"]["message"]
    return found


async def main(folder: Path, disk: Limit | Filled) -> None:
    guard = Guard([NoCalls()], store=f"sqlite:///{folder}/g.db", durability="strict")
    storage = guard.storage
    assert isinstance(storage, Storage)
    storage.journal.patience = 0.5
    app = GuardMiddleware(replay(b"".join(STREAM), status=200, content_type="text/event-stream"), guard=guard)
    result: dict[str, Any] = {}
    async with guard:
        disk.full()
        result["full"] = await _statuses(app, 503)
        result["health"] = dict(guard.health)
        disk.empty()
        result["again"] = await _statuses(app, 200, most=50)
    ledger = guard.ledger()
    async with Guard(store=f"sqlite:///{folder}/g.db") as reader:
        result["broken"] = [str(each) for each in await reader.query.verify()]
        result["events"] = (await reader.query.stats())["events"]
    result["ledger"] = dict(ledger)
    print(json.dumps(result))


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error to who writes, not the end of the process
    at = Path(sys.argv[1])
    anyio.run(main, at, Filled(at) if sys.argv[2] == "tmpfs" else Limit())
