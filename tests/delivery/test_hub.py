"""What was stored is told to who listens, by id."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from luthien_guard import Guard, GuardMiddleware
from luthien_guard.delivery.publisher import Publisher
from luthien_guard.errors import ConfigError, SinkError
from luthien_guard.pubsub import Notice
from luthien_guard.store import chained
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


class Hanging:
    """A hub whose `publish` hangs until the gate is open, and which counts who is in it."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.inside = self.most = 0
        self.heard: list[int] = []

    def open(self) -> None:
        pass

    def publish(self, notices: Sequence[Notice]) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.release()
        assert self.gate.wait(30)
        self.heard += [each.seq for each in notices]
        self.inside -= 1

    def subscribe(self, *, after: str | None = None) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Failing(Hanging):
    """Takes every third notice."""

    def publish(self, notices: Sequence[Notice]) -> None:
        super().publish(notices)
        if notices[0].seq % 3 != 2:
            raise SinkError("away")


def test_every_time_a_hub_takes_no_notices_is_told_and_that_it_does_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Failing()
    hub.gate.set()
    publisher = Publisher(hub)
    publisher.start()
    for seq in range(6):
        publisher.put([chained("c", seq, 1.0, "usage", None, "{}", "")])
        assert hub.entered.acquire(timeout=30)
    publisher.stop(30)
    assert caplog.messages == [
        "pubsub takes no notices, they are dropped: away",
        "pubsub takes notices again (2 were dropped so far)",
        "pubsub takes no notices, they are dropped: away",
        "pubsub takes notices again (4 were dropped so far)",
    ]


def test_a_hub_that_hung_when_it_was_stopped_is_told_by_one_thread_after_a_restart() -> None:
    hub = Hanging()
    publisher = Publisher(hub)
    for seq in range(3):
        publisher.start()
        publisher.put([chained("c", seq, 1.0, "usage", None, "{}", "")])
        if seq == 0:
            assert hub.entered.acquire(timeout=30)
        publisher.stop(0.05)
    hub.gate.set()
    publisher.start()
    publisher.stop(30)
    assert hub.most == 1
    assert hub.heard == [0, 1, 2]
