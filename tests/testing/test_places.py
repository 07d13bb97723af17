"""`check_policy(never_leaves=..., never_sent=...)` finds the place that a policy does not look at."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard import Block, ChatRequest, ContentChunk, ContentCompleted, Policy, ToolCall, hookimpl
from luthien_guard.policies.default_limits import DefaultLimits
from luthien_guard.testing import check_policy

SECRET = "Hunter2-Hunter2"


class Everywhere(Policy):
    lookahead = len(SECRET)

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Any:
        return Block("secret") if SECRET in chunk.text and self.looks(chunk) else None

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        said = f"{call.name} {call.arguments} {call.parsed}"
        return Block("secret") if SECRET in said else None

    def looks(self, chunk: ContentChunk) -> bool:
        return True


class ContentOnly(Everywhere):
    channels = frozenset({"content"})


class FirstChoice(Everywhere):
    def looks(self, chunk: ContentChunk) -> bool:
        return chunk.choice == 0


class Raw(Everywhere):
    """Does not undo the escapes of arguments."""

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        return Block("secret") if SECRET in call.name + call.arguments else None


class Alone(Everywhere):
    """Looks at each text by itself."""

    lookahead = 0

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> None: ...

    @hookimpl
    def on_content_completed(self, content: ContentCompleted) -> Block | None:
        return Block("secret") if SECRET in content.text else None


class Lowered(Everywhere):
    """Takes places in the text in lower case for places in the text."""

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Any:
        at = chunk.text.lower().find(SECRET.lower())
        if at < 0:
            return None
        return chunk.edit((at, at + len(SECRET), "***")) if chunk.writable else Block("secret")


class Words(Policy):
    @hookimpl
    def on_request_started(self, request: ChatRequest) -> Block | None:
        return Block("secret") if any(SECRET in each.text for each in request.texts()) else None


class Strings(Policy):
    """Passes over words in parts."""

    @hookimpl
    def on_request_started(self, request: ChatRequest) -> Block | None:
        said = [message.get("content") for message in request.messages]
        return Block("secret") if any(isinstance(each, str) and SECRET in each for each in said) else None


class NoWords(Policy):
    """Takes it that every message has some."""

    @hookimpl
    def on_request_started(self, request: ChatRequest) -> None:
        for message in request.messages:
            assert "x" not in message["content"]


async def complaint(policy: Policy, **options: Any) -> str:
    with pytest.raises(AssertionError) as told:
        await check_policy(policy, cuts="whole", **options)
    return str(told.value)


@pytest.mark.parametrize("policy", [Everywhere(), DefaultLimits(forbidden_words=(SECRET,))])
async def test_what_is_looked_for_everywhere_leaves_nowhere(policy: Policy) -> None:
    await check_policy(policy, never_leaves=[SECRET], cuts="whole", wire_formats=["anthropic.messages"])


@pytest.mark.parametrize(
    ("policy", "wire_format", "place"),
    [
        (ContentOnly(), "openai.chat", "a thought"),
        (FirstChoice(), "openai.chat", "the second choice"),
        (Raw(), "openai.chat", "an argument in escapes"),
        (Alone(), "anthropic.messages", "two texts that are joined"),
        (Lowered(), "openai.chat", "a text behind letters that grow"),
    ],
)
async def test_a_place_that_is_forgotten(policy: Policy, wire_format: str, place: str) -> None:
    said = await complaint(policy, never_leaves=[SECRET], wire_formats=[wire_format])
    assert said.startswith(f"in {place}: {wire_format}, ")


@pytest.mark.parametrize(
    ("policy", "wire_format", "says"),
    [
        (Words(), "openai.responses", "in the description of a tool: "),
        (Strings(), "openai.chat", "in the user's words: "),
        (NoWords(), "openai.chat", "a conversation: "),
        (NoWords(), "openai.responses", "a conversation: "),
    ],
)
async def test_a_place_of_the_request_that_is_forgotten(policy: Policy, wire_format: str, says: str) -> None:
    assert (await complaint(policy, never_sent=[SECRET], wire_formats=[wire_format])).startswith(says)


async def test_what_is_looked_for_everywhere_is_not_sent() -> None:
    policy = DefaultLimits(forbidden_words=(SECRET,))
    await check_policy(policy, never_sent=[SECRET], cuts="whole", wire_formats=["openai.responses"])
