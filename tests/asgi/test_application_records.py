"""What an application puts into the record of the exchange that it serves."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from luthien_guard import Guard, GuardMiddleware, current_exchange
from luthien_guard.asgi import ExchangeHandle
from luthien_guard.records import EventType, Record
from tests.asgi.host import JSON, Speaker, visit

pytestmark = pytest.mark.anyio

ASK = b'{"model":"m","messages":[]}'


async def recorded(work: Callable[[ExchangeHandle], None]) -> tuple[Record, ...]:
    """The record of an exchange in which the application does `work`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = current_exchange()
        assert exchange is not None
        work(exchange)
        await Speaker(b'{"id":"c","choices":[]}', headers=JSON)(scope, receive, send)

    guard = Guard(["noop"])
    assert (await visit(GuardMiddleware(app, guard=guard), body=ASK)).status == 200
    return guard.records_of(guard.recent_calls[-1])


@pytest.fixture
def unfair() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("unfair")
async def test_threads_may_record_at_once() -> None:
    """Handlers that are no coroutines run in threads."""

    def work(exchange: ExchangeHandle) -> None:
        def say() -> None:
            for _ in range(200):
                exchange.record("a fact")

        threads = [threading.Thread(target=say) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    records = await recorded(work)
    assert [record.seq for record in records] == list(range(len(records)))
    assert len(records) > 800


async def test_what_is_recorded_never_fails_the_application() -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no")

    def work(exchange: ExchangeHandle) -> None:
        exchange.record("a", event="mine", policy="noop", type="mine")
        exchange.record("b", value=Odd())

    first, second = [each for each in await recorded(work) if each.type is EventType.POLICY_RECORD]
    assert first.details == {"event": "a", "event_": "mine", "policy_": "noop", "type_": "mine"}
    assert first.policy is None, "no policy has said it"
    assert second.details == {"event": "b", "unrecordable": "RuntimeError"}
