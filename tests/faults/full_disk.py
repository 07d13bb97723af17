"""A disk that is full: `python -m tests.faults.full_disk FOLDER tmpfs store` where FOLDER is a small file system of its own,
else `... FOLDER limit store`, files that may not grow any more; `spool` in the place of `store` for the one before a remote
store. In a process of its own, because limit and mount are the process's."""

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
from luthien_guard.query.audit import broken
from tests.asgi_drive import ask, replay
from tests.delivery.stores import ListStore
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


async def _blocked_and_back(guard: Guard, disk: Limit | Filled) -> dict[str, Any]:
    assert isinstance(guard.storage, Storage)
    guard.storage.journal.patience = 0.5
    app = GuardMiddleware(replay(b"".join(STREAM), status=200, content_type="text/event-stream"), guard=guard)
    disk.full()
    result: dict[str, Any] = {"full": await _statuses(app, 503), "health": dict(guard.health)}
    disk.empty()
    result["again"] = await _statuses(app, 200, most=50)
    return result


async def of_the_store(folder: Path, disk: Limit | Filled) -> dict[str, Any]:
    async with Guard([NoCalls()], store=f"sqlite:///{folder}/g.db", durability="strict") as guard:
        result = await _blocked_and_back(guard, disk)
    result["ledger"] = dict(guard.ledger())
    async with Guard(store=f"sqlite:///{folder}/g.db") as reader:
        result["broken"] = [str(each) for each in await reader.query.verify()]
        result["events"] = (await reader.query.stats())["events"]
    return result


async def of_the_spool(folder: Path, disk: Limit | Filled) -> dict[str, Any]:
    """The database is away, and the disk of the spool before it is full."""
    store = ListStore(remote=True)
    store.problem = "away"
    async with Guard([NoCalls()], store=store, durability="strict", data=folder) as guard:
        result = await _blocked_and_back(guard, disk)
        store.problem = None
        assert isinstance(guard.storage, Storage)
        while guard.ledger()["spooled"]:
            await anyio.to_thread.run_sync(guard.storage.wait_carried, 0.1)
    result["ledger"] = dict(guard.ledger())
    result["events"] = len(store.kept)
    calls = {call_id for call_id, _ in store.kept}
    result["broken"] = [str(found) for each in calls if (found := broken(each, store.rows(each)))]
    return result


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error to who writes, not the end of the process
    at, kind, whose = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    ends = {"store": of_the_store, "spool": of_the_spool}[whose]
    print(json.dumps(anyio.run(ends, at, Filled(at) if kind == "tmpfs" else Limit())))
