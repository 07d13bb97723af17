"""Asking what happened, over a guard's own store; and whether any tampering is found."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthien_guard import Block, ChatRequest, ContentChunk, Guard, GuardMiddleware, Policy, ToolCall, hookimpl
from luthien_guard.errors import ConfigError
from luthien_guard.query import Change, diff_of
from luthien_guard.query.audit import broken
from luthien_guard.store import Row, chained
from luthien_guard.testing.sinks import exchange_rows
from tests.asgi_drive import ask, replay
from tests.faults.killed import STREAM

pytestmark = pytest.mark.anyio


class System(Policy):
    @hookimpl
    def on_request_started(self, request: ChatRequest) -> ChatRequest:
        first = {"role": "system", "content": "be kind"}
        return request.replace(messages=[first, *request.messages], temperature=0)


class Upper(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk:
        return chunk.replace(text=chunk.text.upper())


class NoCalls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("no")


REQUEST = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/g.db", "jsonl:///{}/g.jsonl"])
async def test_a_call_can_be_explained(url: str, tmp_path: Path) -> None:
    guard = Guard([System(), Upper(), NoCalls()], store=url.format(tmp_path))
    upstream = replay(b"".join(STREAM), status=200, content_type="text/event-stream")
    async with guard:
        reply = await ask(GuardMiddleware(upstream, guard=guard), "/v1/chat/completions", REQUEST)
        call_id = str(reply.header("x-luthien-call-id"))
        with anyio.fail_after(30):
            while (call := await guard.query.call(call_id)) is None or call.ended_at is None:
                await anyio.lowlevel.checkpoint()
        assert (call.outcome, call.model, call.stream) == ("blocked", "m", True)
        (only,) = await guard.query.calls(policy="no-calls")
        assert only == call
        events = await guard.query.events(call_id)
        assert [row.seq for row in events] == list(range(len(events)))
        assert events[-1].event_type == "exchange.closed"
        diff = await guard.query.diff(call_id)
        assert diff.request == (
            Change("messages[0]", "added", None, '{"role": "system", "content": "be kind"}', ("system",)),
            Change("temperature", "added", None, "0", ("system",)),
        )
        said = "look " + "".join(f"word{number} " for number in range(8))
        assert diff.response[0] == Change("choice 0 content", "changed", said, said.upper(), ("upper",))
        assert diff.response[1] == Change(
            "choice 0 tool call bash", "removed", 'bash({"cmd": "rm"})', None, ("no-calls",)
        )
        assert diff.response[2] == Change(
            "choice 0 finish reason", "changed", "tool_calls", "stop", ("no-calls",)
        )
        assert diff.response[3].part == "said by the guard"
        assert await guard.query.verify() == []
        stats = await guard.query.stats()
        assert (stats["calls"], stats["events"]) == (1, len(events))


async def test_rows_are_followed_as_they_come(tmp_path: Path) -> None:
    guard = Guard(store=f"sqlite:///{tmp_path}/g.db")
    upstream = replay(b"".join(STREAM), status=200, content_type="text/event-stream")
    async with guard:
        await guard.query.stats()
        seen: list[str] = []
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                async with aclosing(guard.query.follow(0)) as rows:
                    async for row in rows:
                        seen.append(row.event_type)
                        if row.event_type == "exchange.closed":
                            return

            tasks.start_soon(follow)
            await ask(GuardMiddleware(upstream, guard=guard), "/v1/chat/completions", REQUEST)
        assert seen[0] == "request.received"


async def test_a_guard_without_a_store_cannot_be_asked() -> None:
    with pytest.raises(ConfigError, match="no store"):
        _ = Guard().query


# -- tampering ---------------------------------------------------------------------------------------------------------

ROWS = exchange_rows(1, "a", "b", "c")


def test_a_whole_chain_has_no_finding() -> None:
    assert broken(ROWS[0].call_id, ROWS) is None
    assert broken(ROWS[0].call_id, ROWS[:3]) is None, "a call under way"


@given(at=st.integers(0, len(ROWS) - 1), field=st.sampled_from(["at", "event_type", "policy", "payload", "prev_hash", "hash", "seq"]))  # fmt: skip
def test_any_change_of_a_row_is_found(at: int, field: str) -> None:
    changed: dict[str, Any] = {"at": 5.0, "seq": 77}.get(field, "other")
    rows = list(ROWS)
    rows[at] = replace(rows[at], **{field: changed})
    found = broken(ROWS[0].call_id, rows)
    assert found is not None
    assert found.seq in (at, at + 1)


@given(at=st.integers(0, len(ROWS) - 1))
def test_a_row_that_was_written_anew_is_found_by_the_next(at: int) -> None:
    old = ROWS[at]
    forged = chained(old.call_id, old.seq, old.at, old.event_type, old.policy, '{"forged":1}', old.prev_hash)
    found = broken(old.call_id, [*ROWS[:at], forged, *ROWS[at + 1 :]])
    assert (found is None) == (at == len(ROWS) - 1), "only the last row has nothing that vouches for it"


@given(at=st.integers(0, len(ROWS) - 2))
def test_a_missing_row_is_found(at: int) -> None:
    found = broken(ROWS[0].call_id, [*ROWS[:at], *ROWS[at + 1 :]])
    assert found is not None
    assert (found.seq, found.problem) == (at, "a row is missing")


@given(order=st.permutations(ROWS))
def test_rows_that_changed_places_are_found(order: list[Row]) -> None:
    assert (broken(ROWS[0].call_id, order) is None) == (order == ROWS)


# -- the diff of requests ----------------------------------------------------------------------------------------------

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(
    before=st.fixed_dictionaries({"messages": st.lists(_json, max_size=4), "x": _json}),
    after=st.fixed_dictionaries({"messages": st.lists(_json, max_size=4), "x": _json}),
)
def test_a_diff_is_empty_exactly_when_nothing_changed(before: dict[str, Any], after: dict[str, Any]) -> None:
    rows = []
    for type, body in (("request.received", before), ("request.sent", after)):
        payload = json.dumps({"body": json.dumps(body)})
        rows.append(chained("c", len(rows), 1.0, type, None, payload, ""))
    diff = diff_of("c", rows)
    assert bool(diff.request) == (json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True))
    for change in diff.request:
        assert change.before != change.after or change.kind != "changed"
