"""Whatever happens to an exchange: it is on record once that it ended, and nothing went out that is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from luthien_guard import (
    Block,
    ChatRequest,
    Guard,
    GuardMiddleware,
    Limits,
    Outcome,
    Policy,
    PolicyContext,
    hookimpl,
)
from luthien_guard.exchange import RequestMetadata, new_call_id
from luthien_guard.records import EventType
from tests.asgi_drive import ask, replay
from tests.delivery.stores import ListStore

pytestmark = pytest.mark.anyio

REQUEST = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
ANSWER = b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[]}'
CHAT = "/v1/chat/completions"


def kinds(store: ListStore) -> list[str]:
    return [store.kept[key].event_type for key in sorted(store.kept)]


def closed(store: ListStore) -> list[dict[str, Any]]:
    return [row.details for row in store.kept.values() if row.event_type == EventType.CLOSED.value]


def guarded(store: ListStore, *policies: Policy, **options: Any) -> tuple[Guard, GuardMiddleware, list[str]]:
    guard = Guard(policies, store=store, **options)
    called: list[str] = []

    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        called.append(",".join(kinds(store)))
        await replay(ANSWER, status=200, content_type="application/json")(scope, receive, send)

    return guard, GuardMiddleware(upstream, guard=guard), called


class Endless(Policy):
    @hookimpl
    async def on_exchange_closed(self, outcome: Outcome, ctx: PolicyContext) -> None:
        await anyio.sleep_forever()


async def test_a_policy_that_does_not_let_go_cannot_keep_the_end_from_the_record(tmp_path: Path) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, app, _ = guarded(store, Endless(), limits=Limits(close_timeout=0.05))
    async with guard:
        await ask(app, CHAT, REQUEST)
    assert [end["outcome"] for end in closed(store)] == ["success"]


class Blocks(Policy):
    @hookimpl
    def on_request_started(self, request: ChatRequest) -> Block:
        return Block("not here")


@pytest.mark.parametrize("request_body", [REQUEST, b"{"], ids=["blocked", "malformed"])
async def test_a_refusal_that_cannot_be_recorded_is_not_given(tmp_path: Path, request_body: bytes) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, app, called = guarded(store, Blocks())
    assert guard.storage is not None
    guard.storage.journal.patience = 0.05
    async with guard:
        store.problem = "disk full"
        reply = await ask(app, CHAT, request_body)
        store.problem = None
    assert reply.status == 503
    assert "could not be recorded" in json.loads(reply.body)["error"]["message"]
    assert not called
    assert len(closed(store)) == 1


async def test_strict_a_request_without_a_body_is_on_record_before_upstream_hears_of_it(
    tmp_path: Path,
) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, app, called = guarded(store, durability="strict")
    async with guard:
        await ask(app, "/v1/responses/resp_1", b"", method="GET")
    assert called == ["request.received"]


class Changes(Policy):
    @hookimpl
    def on_request_started(self, request: ChatRequest) -> ChatRequest:
        return request.replace(model="other")


async def test_who_is_cancelled_while_the_record_is_written_is_closed_once(tmp_path: Path) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, app, called = guarded(store, Changes())
    store.gate.clear()
    async with guard:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, app, CHAT, REQUEST)
            await anyio.wait_all_tasks_blocked()
            assert not called
            tasks.cancel_scope.cancel()
        store.gate.set()
    assert [end["outcome"] for end in closed(store)] == ["cancelled"]
    assert not called
    assert guard.ledger()["in_memory"] == 0


async def test_who_was_cancelled_while_waiting_for_the_record_still_has_to_wait(tmp_path: Path) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, _, _ = guarded(store)
    async with guard:
        record = guard.delivery.recorder(new_call_id())
        store.gate.clear()
        record(EventType.VERDICT, policy="p", verdict="block")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(record.settle)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert record.owes
        store.gate.set()
        await record.settle()
        assert not record.owes
        assert store.kept


async def test_a_refused_request_is_two_facts(tmp_path: Path) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, _, _ = guarded(store)
    async with guard:
        metadata = RequestMetadata(new_call_id(), 1.0)
        guard.plane.reject(metadata, "openai.chat", 413, "too_large", "too large")
    assert kinds(store) == ["request.received", "request.rejected", "exchange.closed"]
    assert guard.storage is not None
    assert not guard.storage.journal.open_calls


class Hears(Policy):
    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell

    @hookimpl
    async def on_exchange_closed(self, outcome: Outcome, ctx: PolicyContext) -> None:
        self.tell(outcome.status.value)


async def test_a_policy_that_does_not_let_go_cannot_keep_the_end_from_the_others(tmp_path: Path) -> None:
    store, heard = ListStore(path=tmp_path / "s"), list[str]()
    guard, app, _ = guarded(store, Endless(), Hears(heard.append), limits=Limits(close_timeout=0.05))
    async with guard:
        await ask(app, CHAT, REQUEST)
    assert heard == ["success"]
    assert len(closed(store)) == 1
