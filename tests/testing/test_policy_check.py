"""`check_policy` passes the policies of the library and finds out each way to break a promise."""

from __future__ import annotations

import re
from typing import Any

import pytest

from luthien_guard import (
    Block,
    Chunk,
    ContentChunk,
    ContentCompleted,
    Policy,
    PolicyContext,
    ToolCall,
    hookimpl,
)
from luthien_guard.policies.default_limits import DefaultLimits
from luthien_guard.policies.noop import Noop
from luthien_guard.policies.tool_call_judge import ToolCallJudge
from luthien_guard.policies.uppercase_nth_word import UppercaseNthWord
from luthien_guard.testing import FakeJudge, Script, check_policy

DELETION = {"a deletion": Script().text("Now. ").tool_call("bash", {"command": "rm -rf /"})}
SECRET = {"a secret": Script().text("The secret is out.")}


@pytest.mark.parametrize(
    "policy",
    [
        Noop(),
        UppercaseNthWord(n=2),
        ToolCallJudge(),
        DefaultLimits(max_tokens=100),
        DefaultLimits(forbidden_words=("secret",)),
    ],
    ids=lambda policy: type(policy).__name__,
)
async def test_the_policies_of_the_library_pass(policy: Policy) -> None:
    await check_policy(policy, scripts={**DELETION, **SECRET}, judge=FakeJudge({"rm -rf": 0.9}))


class Raises(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> None:
        raise KeyError(call.name)


class Nonsense(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Any:
        return 42


class SeesOneDelta(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("secret") if "secret" in chunk.text else None


class CountsDeltas(Policy):
    channels = frozenset({"content"})

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> ContentChunk | None:
        count = ctx.scratchpad["count"] = ctx.scratchpad.get("count", 0) + 1
        return chunk.replace(text=chunk.text.upper()) if count % 2 else None


class OneFormat(Policy):
    @hookimpl
    def on_content_completed(self, content: ContentCompleted, ctx: PolicyContext) -> Block | None:
        return Block("format") if ctx.wire_format == "anthropic.messages" else None


class Remembers(Policy):
    """What belongs to an exchange in the policy: hidden from the check at start behind a tuple."""

    def __init__(self) -> None:
        self.seen = ([],)  # type: ignore[var-annotated]

    @hookimpl
    def on_content_completed(self, content: ContentCompleted, ctx: PolicyContext) -> Block | None:
        first = ctx.call_id not in self.seen[0] and len(self.seen[0]) > 40
        self.seen[0].append(ctx.call_id)
        return Block("seen enough") if first else None


class DropsEnds(Policy):
    @hookimpl
    def on_chunk_completed(self, chunk: Chunk) -> Any:
        return [] if chunk.event == "content_block_stop" else None


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        (Raises, "the policy failed: on_tool_call_completed: KeyError"),
        (Nonsense, "the policy failed: on_content_chunk"),
        (SeesOneDelta, "depends on how the answer came"),
        (CountsDeltas, "depends on how the answer came"),
        (OneFormat, "depends on how the answer came"),
        (Remembers, "depends on"),
        (DropsEnds, "policy failed|breaks the wire format"),
    ],
)
async def test_broken_promises_are_found_out(policy: type[Policy], found: str) -> None:
    with pytest.raises(AssertionError) as caught:
        await check_policy(policy(), scripts={**DELETION, **SECRET}, cuts="whole")
    assert re.search(found, str(caught.value)), str(caught.value)
