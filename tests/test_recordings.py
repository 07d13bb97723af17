"""Every recorded exchange through the middleware: identity, one rewriting policy, one blocking policy."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import anyio
import pytest

from luthien_guard import Block, Guard, GuardMiddleware, Policy, ToolCall, hookimpl
from luthien_guard.testing.reading import read
from luthien_guard.testing.transcript import frames_of
from tests.asgi_drive import Reply, ask, replay
from tests.official_sdks import reads
from tests.recordings import FOLDER, Recording, made_plain, needs_recordings, pairs, recordings

pytestmark = needs_recordings
ALL = recordings() if FOLDER.is_dir() else ()
SUFFIX = {
    "openai.chat": "/v1/chat/completions",
    "anthropic.messages": "/v1/messages",
    "openai.responses": "/v1/responses",
}
each = pytest.mark.parametrize("recording", ALL, ids=repr)


class BlocksEveryCall(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("no calls today")


class Reads(Policy):
    """Covers everything and objects to nothing: the whole machinery at work, and still not a byte may differ."""

    lookahead = 16

    @hookimpl
    def on_content_chunk(self) -> None: ...

    @hookimpl
    def on_content_completed(self) -> None: ...

    @hookimpl
    def on_tool_call_completed(self) -> None: ...


POLICIES: dict[str, list[Any]] = {
    "none": [],
    "noop": ["noop"],
    "reads": [Reads()],
    "upper case": [{"use": "uppercase-nth-word", "config": {"n": 1}}],
    "no calls": [BlocksEveryCall()],
}


@cache
def guard_with(policies: str) -> Guard:
    """One for all recordings, as in a host."""
    return Guard(POLICIES[policies])


def through(recording: Recording, policies: str, cuts: Sequence[int] = ()) -> tuple[Reply, Guard]:
    guard = guard_with(policies)
    content_type = "text/event-stream" if recording.stream else "application/json"
    app = replay(recording.body, status=recording.status, content_type=content_type, cuts=cuts)
    asked = (recording.request or {}).get("n") or 1
    request = json.dumps({"model": "m", "messages": [], "input": [], "n": asked}).encode()
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
@pytest.mark.parametrize("policies", ["none", "noop"])
def test_bytes_out_are_bytes_in(recording: Recording, policies: str) -> None:
    for cuts in ((), [1] * min(len(recording.body), 20_000), splits(recording.body, recording.id)):
        reply, _ = through(recording, policies, cuts)
        assert reply.body == recording.body
        assert reply.status == recording.status
        assert reply.finished


def refused(guard: Guard) -> bool:
    """What strict reading does not accept (law 2) is blocked while a policy enforces: the exception of law 1."""
    facts = guard.records_of(guard.recent_calls[-1])
    return any(fact.details.get("outcome") == "blocked" and fact.policy == "unknown-chunk" for fact in facts)


def plain(body: bytes) -> bytes:
    """Without what law 2 makes unambiguous: calls that share an index get indices of their own, a last event
    without its blank line gets one, a message beside the delta that it repeats goes, a line that only some readers read is
    a comment."""
    return re.sub(rb'"index": ?[0-9]+', b"", made_plain(body)).rstrip()


@each
def test_bytes_that_every_policy_read_and_let_pass_are_the_same(recording: Recording) -> None:
    reply, guard = through(recording, "reads", splits(recording.body, recording.id))
    assert refused(guard) or plain(reply.body) == plain(recording.body)


def test_few_recordings_are_refused_or_made_unambiguous() -> None:
    changed = []
    for recording in ALL:
        reply, guard = through(recording, "reads")
        if reply.body != recording.body:
            changed.append(repr(recording))
            assert refused(guard) or plain(reply.body) == plain(recording.body), recording
    assert len(changed) <= len(ALL) // 20, changed


def jsons(recording: Recording, body: bytes) -> list[Any]:
    if not recording.stream:
        return [json.loads(body)] if body.strip().startswith(b"{") else []
    frames, _ = frames_of(body if body.endswith(b"\n\n") else body.rstrip() + b"\n\n")
    return [frame.data for frame in frames]


@each
def test_upper_casing_changes_the_content_with_its_echoes_and_nothing_else(recording: Recording) -> None:
    came = read(recording.body, recording.api, stream=recording.stream)
    before = jsons(recording, made_plain(recording.body))
    for cuts in ((), splits(recording.body, recording.id)):
        reply, guard = through(recording, "upper case", cuts)
        if refused(guard):
            continue
        left = read(reply.body, recording.api, stream=recording.stream)
        assert left.text == came.text.upper()
        assert (left.reasoning, left.refusal, left.tool_calls) == (
            came.reasoning,
            came.refusal,
            came.tool_calls,
        )
        assert (left.finish, left.usage) == (came.finish, came.usage)
        assert left.complete or not came.complete
        after = jsons(recording, reply.body)
        assert len(before) == len(after)
        for one, other in pairs(before, after):
            assert other in (one, one.upper() if isinstance(one, str) else one) or _is_logprobs(one, other)


def _is_logprobs(before: Any, after: Any) -> bool:
    return after in (None, []) and "logprob" in json.dumps(before)


@each
def test_where_every_call_is_blocked_no_argument_leaves_and_the_sdks_read_the_answer(
    recording: Recording,
) -> None:
    reply, guard = through(recording, "no calls", splits(recording.body, recording.id))
    if refused(guard):
        return
    came = read(recording.body, recording.api, stream=recording.stream)
    left = read(reply.body, recording.api, stream=recording.stream)
    assert left.tool_calls == ()
    said = re.sub(r"⛔ The tool call [^.]*?was blocked by the policy blocks-every-call\.", "", left.text)
    assert said.replace("\n", "") == came.text.replace("\n", "")
    for call in came.tool_calls:
        for secret in (call.arguments, json.dumps(call.arguments)[1:-1]):
            assert len(call.arguments) < 5 or secret.encode() not in reply.body
    if came.tool_calls and came.complete and not came.problems:
        assert left.problems == []
        assert "blocked" in left.text
    if recording.status == 200 and not came.problems and not came.error:
        reads(recording.api, reply.body, stream=recording.stream)
