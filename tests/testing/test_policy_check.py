"""`check_policy` passes the policies of the library and finds out each way to break a promise."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest

from luthien_guard import (
    Block,
    ChatRequest,
    Chunk,
    ContentChunk,
    ContentCompleted,
    Policy,
    PolicyContext,
    ToolCall,
    hookimpl,
)
from luthien_guard.events import ResponseCompleted
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


class RedactsOneDelta(Policy):
    """And in one choice only."""

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> ContentChunk | None:
        if chunk.choice != 1 or not chunk.writable:
            return None
        return chunk.replace(text=chunk.text.replace("secret", "******"))


class OneDeltaLate(Policy):
    """Looks at what is long enough, and at what left already."""

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk, ctx: PolicyContext) -> Block | None:
        before = ctx.scratchpad.get("text", "")
        ctx.scratchpad["text"] = before + chunk.text
        return Block("secret") if "secret" in before or "secret" in chunk.text[:-2] else None


class AtTheEnd(Policy):
    """Decides when nearly everything has left."""

    lookahead = 1

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("it ends") if chunk.final else None


class NoHold(Policy):
    @hookimpl
    def on_response_completed(self, response: ResponseCompleted) -> Block | None:
        return Block("secret") if "secret" in response.text else None


class OneRequest(Policy):
    """Looks at one way to ask."""

    def __init__(self, **only: Any) -> None:
        self._only = tuple(only.items())

    @hookimpl
    def on_request_started(self, request: ChatRequest) -> ChatRequest | None:
        if any(getattr(request, name) != value for name, value in self._only):
            return None
        return request.replace(messages=[{"role": "user", "content": "***"}])


class Numbers(Policy):
    """Tells upstream how many exchanges there were."""

    def __init__(self) -> None:
        self._numbers = count()

    @hookimpl
    def on_request_started(self, request: ChatRequest) -> ChatRequest:
        return request.replace(user=str(next(self._numbers)))


class NamesTheCall(Policy):
    @hookimpl
    def on_request_started(self, request: ChatRequest, ctx: PolicyContext) -> ChatRequest:
        return request.replace(metadata={"call": ctx.call_id})


class NoCalls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("no calls")


async def test_explanations_of_several_calls_may_stand_apart() -> None:
    await check_policy(NoCalls(), cuts="whole")


async def test_upstream_may_be_told_which_call_it_is() -> None:
    await check_policy(NamesTheCall(), wire_formats=["openai.chat"], cuts="whole")


async def test_what_only_looks_on_by_configuration_is_no_broken_promise() -> None:
    for shadow in ({"policy": {"use": NoHold(), "mode": "shadow"}}, {"policy": NoHold(), "mode": "observe"}):
        await check_policy(**shadow, scripts=SECRET, wire_formats=["openai.chat"], cuts="whole")  # type: ignore[arg-type]


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
        (RedactsOneDelta, r"depends on how the answer came(.|\n)*The secret"),
        (OneDeltaLate, "'The secret ' left, and is blocked when it comes alone"),
        (AtTheEnd, "left, and is blocked when it comes alone"),
        (NoHold, "block from on_response_completed without hold = 'response' comes too late"),
        (partial(OneRequest, stream=True), "what is sent upstream depends.*'messages|messages: "),
        (
            partial(OneRequest, wire_format="openai.chat"),
            r"what is sent upstream.*texts: \['\*\*\*'\], \['Hello'\]",
        ),
        (Numbers, "what is sent upstream depends.*user: '0', '1'"),
    ],
)
async def test_broken_promises_are_found_out(policy: Callable[[], Policy], found: str) -> None:
    spoken = {"in deltas": Script().text("The ").text("secret ").text("is ").text("out.")}
    choices = {"choices": Script().text("Fine.").text("The secret is out.", choice=1)}
    with pytest.raises(AssertionError) as caught:
        await check_policy(policy(), scripts={**DELETION, **SECRET, **spoken, **choices}, cuts="whole")
    assert re.search(found, str(caught.value)), str(caught.value)
