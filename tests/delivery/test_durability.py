"""Decisions and their records: what must be on record before it has an effect, and what happens when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from luthien_guard import Block, Guard, GuardMiddleware, Policy, ToolCall, hookimpl
from luthien_guard.delivery.storage import Storage
from luthien_guard.records import EventType, Record
from luthien_guard.testing.reading import read
from tests.asgi_drive import Reply, ask, replay
from tests.delivery.stores import ListStore

pytestmark = pytest.mark.anyio

REQUEST = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'


class NoCalls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("no calls here")


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


TEXT = event({"role": "assistant", "content": "hello"}) + event({}, "stop") + b"data: [DONE]\n\n"
FUNCTION = {"name": "bash", "arguments": '{"cmd": "rm"}'}
CALL = (
    event({"role": "assistant", "content": "look"})
    + event({"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": FUNCTION}]})
    + event({}, "tool_calls")
    + b"data: [DONE]\n\n"
)


def guarded(store: ListStore, body: bytes, **options: Any) -> tuple[Guard, GuardMiddleware]:
    guard = Guard([NoCalls()], store=store, **options)
    assert guard.storage is not None
    return guard, GuardMiddleware(replay(body, status=200, content_type="text/event-stream"), guard=guard)


async def test_both_ends_of_an_exchange_are_stored(tmp_path: Path) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, app = guarded(store, CALL)
    async with guard:
        reply = await ask(app, "/v1/chat/completions", REQUEST, headers=[(b"x-session-id", b"s1")])
    call_id = reply.header("x-luthien-call-id")
    assert call_id
    rows = {row.event_type: row.details for row in store.rows(call_id)}
    received = rows["request.received"]
    assert (received["model"], received["session_id"], received["stream"]) == ("m", "s1", True)
    assert json.loads(received["body"]) == json.loads(REQUEST)
    came = rows["response.received"]["choices"][0]
    assert came["tool_calls"] == [
        {"id": "1", "name": "bash", "arguments": '{"cmd": "rm"}', "kind": "function"}
    ]
    assert came["finish_reason"] == "tool_calls"
    left = rows["response.released"]
    assert left["choices"][0]["tool_calls"] == []
    assert left["choices"][0]["finish_reason"] == "stop"
    assert [text["text"] for text in left["choices"][0]["texts"]] == ["look"]
    assert left["said"]
    assert rows["policy.verdict"]["tool"] == "bash"
    assert rows["exchange.closed"]["first_byte"] >= 0
    assert guard.ledger()["stored"] == len(store.kept)


async def test_strict_no_byte_leaves_before_its_record(tmp_path: Path) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, app = guarded(store, TEXT, durability="strict")
    reply = Reply()
    called: list[bool] = []
    sent: list[tuple[bool, ...]] = []

    async def upstream(scope: Any, receive: Any, send: Any) -> None:
        called.append(bool(store.kept))
        await replay(TEXT, status=200, content_type="text/event-stream")(scope, receive, send)

    class Watching:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def watched(message: Any) -> None:
                if message.get("body"):
                    kinds = {row.event_type for row in store.kept.values()}
                    sent.append(("request.received" in kinds, "response.started" in kinds))
                await send(message)

            await GuardMiddleware(upstream, guard=guard)(scope, receive, watched)

    async with guard:
        reply = await ask(Watching(), "/v1/chat/completions", REQUEST)
    assert reply.body == TEXT
    assert called == [True], "the request was on record before upstream heard of it"
    assert sent
    assert all(sent[0])
    assert any(durable for _, durable in store.writes)


@pytest.mark.parametrize("on_unrecorded", ["block", "allow"])
async def test_a_decision_that_cannot_be_stored_has_no_effect(tmp_path: Path, on_unrecorded: str) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, app = guarded(store, TEXT, durability="strict", on_unrecorded=on_unrecorded)
    assert guard.storage is not None
    guard.storage.journal.patience = 0.05
    async with guard:
        store.problem = "disk full"
        reply = await ask(app, "/v1/chat/completions", REQUEST)
        store.problem = None
    if on_unrecorded == "allow":
        assert reply.body == TEXT
    else:
        assert reply.status == 503
        assert "could not be recorded" in json.loads(reply.body)["error"]["message"]
    closed = [row for row in store.kept.values() if row.event_type == EventType.CLOSED.value]
    assert len(closed) == 1


@pytest.mark.parametrize("on_unrecorded", ["block", "allow"])
async def test_no_exchange_begins_that_nobody_could_put_on_record(tmp_path: Path, on_unrecorded: str) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, app = guarded(store, TEXT, on_unrecorded=on_unrecorded)
    assert guard.storage is not None
    async with guard:
        room, guard.storage.journal._max = guard.storage.journal._max, 0
        reply = await ask(app, "/v1/chat/completions", REQUEST)
        assert reply.status == (200 if on_unrecorded == "allow" else 503)
        ledger = guard.ledger()
        assert ledger["accepted"] == ledger["dropped"] == ledger["dropped.overflow"] > 0
        guard.storage.journal._max = room
        assert (await ask(app, "/v1/chat/completions", REQUEST)).body == TEXT
    assert len({row.call_id for row in store.kept.values()}) == 1


async def test_balanced_a_verdict_waits_and_an_untouched_stream_does_not(tmp_path: Path) -> None:
    store = ListStore(path=tmp_path / "s")
    guard, app = guarded(store, TEXT)
    async with guard:
        store.gate.clear()
        reply = await ask(app, "/v1/chat/completions", REQUEST)
        assert reply.body == TEXT, "nothing was decided: nobody waits for the store"
        store.gate.set()
    guard, app = guarded(store, CALL)
    seen: list[Reply] = []
    async with guard:
        store.gate.clear()
        async with anyio.create_task_group() as tasks:

            async def client() -> None:
                seen.append(await ask(app, "/v1/chat/completions", REQUEST))

            tasks.start_soon(client)
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
            assert not seen
            store.gate.set()
    assert "no calls here" not in seen[0].body.decode()
    assert read(seen[0].body, "openai.chat", stream=True).tool_calls == ()


async def test_a_remote_store_that_is_down_is_nobodys_business(tmp_path: Path) -> None:
    store = ListStore(remote=True, path=tmp_path / "s")
    store.problem = "connection refused"
    guard, app = guarded(store, CALL, durability="strict")
    async with guard:
        for _ in range(20):
            reply = await ask(app, "/v1/chat/completions", REQUEST)
            assert reply.status == 200
        ledger = guard.ledger()
        assert ledger["accepted"] == ledger["spooled"] + ledger["in_memory"]
        assert not store.kept
        store.problem = None
        await anyio.to_thread.run_sync(store.wait, ledger["accepted"])
    ledger = guard.ledger()
    assert ledger["stored"] == ledger["accepted"] == len(store.kept)


async def test_what_a_dead_process_spooled_is_carried_and_its_calls_are_interrupted(tmp_path: Path) -> None:
    store = ListStore(remote=True, path=tmp_path / "s")
    store.problem = "away"
    first = Storage(store, tmp_path / "state")
    first.start()
    first.journal.put(Record("call-1", 0, 1.0, EventType.REQUEST_RECEIVED, None, {"writer": first.writer.id}))
    first.stop(0.2)
    first.writer.keep()  # as a crash leaves it: unlocked, not closed
    store.problem = None
    second = Storage(store, tmp_path / "state")
    second.start()
    await anyio.to_thread.run_sync(store.wait, 2)
    second.stop()
    kinds = [(row.event_type, row.details.get("outcome")) for row in store.rows("call-1")]
    assert kinds == [("request.received", None), ("exchange.closed", "interrupted")]
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == []


async def test_a_call_whose_events_were_pruned_is_closed_too(tmp_path: Path) -> None:
    from luthien_guard.delivery.dead import interrupt
    from luthien_guard.sinks.sqlite import SqliteStore
    from luthien_guard.testing.sinks import exchange_rows

    store = SqliteStore(tmp_path / "s.db")
    store.open()
    (call_id,) = {row.call_id for row in exchange_rows(1)}
    store.write(exchange_rows(1, ended=False))
    store.prune(before=1e12, events_only=True)
    for id in store.unfinished():
        interrupt(store, id)
    call = store.call(call_id)
    assert call is not None
    assert call.outcome == "interrupted"
    store.close()
