"""Every recorded exchange through the middleware: identity, one rewriting policy, one blocking policy."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from luthien_guard import Block, Guard, GuardMiddleware, Policy, ToolCall, hookimpl
from tests.asgi_drive import Reply, ask, replay
from tests.recordings import FOLDER, Recording, needs_recordings, recordings

pytestmark = needs_recordings
ALL = recordings() if FOLDER.is_dir() else ()
SUFFIX = {"openai.chat": "/v1/chat/completions", "anthropic.messages": "/v1/messages", "openai.responses": "/v1/responses"}
each = pytest.mark.parametrize("recording", ALL, ids=repr)


class BlocksEveryCall(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("no calls today")


def through(recording: Recording, policies: Sequence[Any], cuts: Sequence[int] = ()) -> tuple[Reply, Guard]:
    guard = Guard(policies)
    content_type = "text/event-stream" if recording.stream else "application/json"
    app = replay(recording.body, status=recording.status, content_type=content_type, cuts=cuts)
    request = json.dumps({"model": "m", "messages": [], "input": []}).encode()
    path = SUFFIX[recording.api]

    async def once() -> Reply:
        return await ask(GuardMiddleware(app, guard=guard), path, request)

    return anyio.run(once), guard


def splits(body: bytes, seed: str) -> list[int]:
    chance = random.Random(seed)
    found: list[int] = []
    while sum(found) < len(body):
        found.append(chance.choice((1, 2, 7, 60, 400, 3000)))
    return found


@each
@pytest.mark.parametrize("policies", [[], ["noop"]], ids=["none", "noop"])
def test_bytes_out_are_bytes_in(recording: Recording, policies: list[str]) -> None:
    for cuts in ((), [1] * min(len(recording.body), 20_000), splits(recording.body, recording.id)):
        reply, _ = through(recording, policies, cuts)
        assert reply.body == recording.body
        assert reply.status == recording.status
        assert reply.finished


class Reads(Policy):
    """Covers everything and objects to nothing: the whole machinery at work, and still not a byte may differ."""

    lookahead = 16

    @hookimpl
    def on_content_chunk(self) -> None: ...

    @hookimpl
    def on_content_completed(self) -> None: ...

    @hookimpl
    def on_tool_call_completed(self) -> None: ...


#: What strict reading refuses (law 2): the exception that law 1 makes. By id: the reason.
def refused(recording: Recording, guard: Guard) -> bool:
    facts = guard.records_of(guard.recent_calls[-1])
    return any(fact.details.get("outcome") == "blocked" and fact.policy == "unknown-chunk" for fact in facts)


@each
def test_bytes_that_every_policy_read_and_let_pass_are_the_same(recording: Recording) -> None:
    for cuts in ((), splits(recording.body, recording.id)):
        reply, guard = through(recording, [Reads()], cuts)
        if refused(recording, guard):
            continue
        tail = b"" if recording.body.endswith((b"\n\n", b"\n", b"}")) else b"\n\n"
        assert reply.body in (recording.body, recording.body + tail, recording.body + b"\n")


def strings(value: Any) -> list[str]:
    found: list[str] = []
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
    return found
