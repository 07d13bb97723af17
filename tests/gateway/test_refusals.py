"""What is turned away at the door is on record, and no flood of it fills the store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from luthien_guard import Guard
from luthien_guard.config.settings import ServerSettings
from luthien_guard.errors import SinkError
from luthien_guard.gateway import create_app
from luthien_guard.gateway.authentication import ClientKeys
from luthien_guard.gateway.keys import KeyFile
from luthien_guard.records import EventType, Record
from luthien_guard.testing import VirtualClock
from tests.asgi_drive import Reply, ask

pytestmark = pytest.mark.anyio

HOST = (b"host", b"localhost")
WRONG = (b"authorization", b"Bearer lg_0000000000000000_" + b"0" * 64)


class Door:
    """A gateway with one key, asked in process. Nobody who is refused gets further."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.clock = VirtualClock()
        self.guard = Guard(clock=self.clock, **more)
        file = KeyFile(folder / "keys.db", b"p" * 32)
        _, self.key = file.create("me", scopes=["messages"], settings={"requests_per_minute": 2})
        self.app = create_app(self.guard, auth=ClientKeys(file), server=ServerSettings(host="localhost"))

    async def ask(self, *headers: tuple[bytes, bytes], path: str = "/v1/chat/completions") -> Reply:
        return await ask(self.app, path, b"{}", headers=headers)

    def own(self) -> tuple[bytes, bytes]:
        return (b"authorization", b"Bearer " + self.key.encode())

    def rejected(self, reply: Reply) -> Record:
        """Its one rejection; the exchange is closed and blocked."""
        records = self.guard.records_of(reply.header("x-luthien-call-id") or "")
        assert [each.type for each in records][-2:] == [EventType.REQUEST_REJECTED, EventType.CLOSED]
        assert records[-1].details["outcome"] == "blocked"
        return records[-2]

    def recorded(self, replies: Iterable[Reply]) -> int:
        return sum(each.header("x-luthien-call-id") is not None for each in replies)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ([HOST, WRONG], 401, "invalid_api_key"),
        ([HOST], 401, "missing_api_key"),
        ([(b"host", b"evil.test"), WRONG], 421, "host_not_allowed"),
        ([HOST, (b"origin", b"http://evil.test")], 403, "origin_not_allowed"),
    ],
)
async def test_a_stranger_is_on_record(headers: Any, status: int, code: str, tmp_path: Path) -> None:
    door = Door(tmp_path)
    reply = await door.ask(*headers)
    record = door.rejected(reply)
    assert (reply.status, record.details["status"], record.details["code"]) == (status, status, code)


async def test_a_key_that_may_not_is_known_by_its_hash(tmp_path: Path) -> None:
    door = Door(tmp_path)
    refused = await door.ask(HOST, door.own())
    assert door.rejected(refused).details["code"] == "scope_missing"
    (received,) = (
        each
        for each in door.guard.records_of(refused.header("x-luthien-call-id") or "")
        if each.type is EventType.REQUEST_RECEIVED
    )
    assert received.details["api_key_hash"] == door.guard.callers.hashed(door.key.encode())
    assert door.key.split("_")[2] not in repr(received)
    await door.ask(HOST, door.own())
    too_many = await door.ask(HOST, door.own(), path="/v1/messages")
    assert too_many.status == 429
    assert door.rejected(too_many).details["code"] == "rate_limit_exceeded"


async def test_a_flood_is_counted_and_the_next_record_says_so(tmp_path: Path) -> None:
    door = Door(tmp_path)
    flood = [await door.ask(HOST, WRONG) for _ in range(100)]
    assert door.recorded(flood) == 60
    assert {each.status for each in flood} == {401}
    assert door.recorded([await door.ask(HOST)]) == 1  # of another kind
    door.clock.now += 10
    later = [await door.ask(HOST, WRONG), await door.ask(HOST, WRONG)]
    assert door.recorded(later) == 1
    assert "40 more" in door.rejected(later[0]).details["reason"]
    assert "40 more" not in later[0].body.decode()
    door.clock.now += 3600
    quiet = await door.ask(HOST, WRONG)
    assert "1 more" in door.rejected(quiet).details["reason"]


async def test_the_metrics_know_them_all(tmp_path: Path) -> None:
    door = Door(tmp_path)
    for _ in range(70):
        await door.ask(HOST, WRONG)
    text = door.app.state.metrics.render()[1].decode()
    assert 'luthien_gateway_refusals_total{why="invalid_api_key"} 70.0' in text
    assert "luthien_gateway_refusals_unrecorded_total 10.0" in text


async def test_what_is_no_model_s_path_is_counted_only(tmp_path: Path) -> None:
    door = Door(tmp_path)
    reply = await door.ask(HOST, WRONG, path="/v1/models")
    assert (reply.status, reply.header("x-luthien-call-id")) == (401, None)
    assert not door.guard.recent_calls


async def test_a_store_that_cannot_start_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    door = Door(tmp_path, store=f"sqlite:///{tmp_path}/file/g.db")
    with pytest.raises(SinkError):
        await door.guard.start()
    reply = await door.ask(HOST, WRONG)
    assert (reply.status, reply.header("x-luthien-call-id")) == (401, None)
