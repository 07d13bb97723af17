"""After a failed fsync nobody knows what is on disk: nothing that depends on it happens, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.delivery.spool import Spool
from luthien_guard.errors import SinkError
from luthien_guard.query.audit import verify
from luthien_guard.sinks.sqlite import SqliteStore
from luthien_guard.store import Row, Written
from luthien_guard.testing.sinks import exchange_rows
from tests.asgi_drive import ask, replay
from tests.faults.fsync import fails_here, in_a_thread, is_possible
from tests.faults.killed import REQUEST, STREAM, NoCalls

pytestmark = pytest.mark.skipif(not is_possible(), reason="the kernel takes no seccomp filter here")


class OnABadDisk(SqliteStore):
    """Its writer's thread meets a disk that fails, once `bad` is set."""

    bad = False

    def write(self, rows: Sequence[Row], *, durable: bool = False) -> Written:
        if self.bad:
            type(self).bad = False
            fails_here()
        return super().write(rows, durable=durable)


def test_what_cannot_be_made_durable_does_not_happen(tmp_path: Path) -> None:
    store = OnABadDisk(tmp_path / "g.db")
    guard = Guard([NoCalls()], store=store, durability="strict", data=tmp_path)
    app = GuardMiddleware(replay(b"".join(STREAM), status=200, content_type="text/event-stream"), guard=guard)

    async def status() -> int:
        return (await ask(app, "/v1/chat/completions", REQUEST)).status

    async def exchanges() -> None:
        async with guard:
            assert await status() == 200
            type(store).bad = True
            assert await status() == 503, "and not after some tries, with its record in quarantine"
            assert "disk I/O error" in str(guard.health)
        async with guard:  # another thread: the disk is well again
            assert await status() == 200

    anyio.run(exchanges)
    ledger = guard.ledger()
    assert (ledger["in_memory"], ledger["spooled"], ledger["dropped"]) == (0, 0, 0)
    again = SqliteStore(tmp_path / "g.db")
    again.open()
    assert list(verify(again)) == []
    assert again.stats()["events"] == ledger["accepted"] == ledger["stored"]
    again.close()


def test_a_spool_whose_disk_failed_begins_another_file_and_keeps_what_it_had(tmp_path: Path) -> None:
    spool, said = Spool(tmp_path / "spool.db"), list[Any]()
    spool.open()
    first, second = exchange_rows(1), exchange_rows(2)
    spool.write(first, durable=True)

    def writes() -> None:
        fails_here()
        try:
            spool.write(second, durable=True)
        except SinkError as error:
            said.append(error)

    in_a_thread(writes)
    assert "disk I/O error" in str(said[0])
    spool.write(second, durable=True)
    there = [row for _, row in spool.peek()]
    assert [row for row in there if row in first] == first
    assert [row for row in there if row in second] == second
    assert len(there) == len(set(there))
    assert list(tmp_path.glob("spool.db.damaged-*")), "the file that failed is never written again"
    spool.close()
