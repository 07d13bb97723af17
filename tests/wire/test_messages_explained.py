"""anthropic.messages: where the explanation of a block stands when calls stand in unusual places, or have left."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard import Block, ContentChunk, ContentCompleted, Policy, ToolCall, hookimpl
from tests.cases.chat_wire import Sent, through
from tests.official_sdks import reads
from tests.wire.joined import steps
from tests.wire.messages_events import begun, finished, said, started, stopped, wire

pytestmark = pytest.mark.anyio
API = "anthropic.messages"
GOOD = {"type": "tool_use", "id": "a", "name": "good", "input": {"x": 1}}
BAD = {"type": "tool_use", "id": "b", "name": "bad", "input": {"x": 1}}
LATER_BAD = (begun(1, "tool_use", name="bad"), stopped(1))


class Forbids(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block | None:
        return Block("bad", "because") if call.name == "bad" else None


class NoMark(Policy):
    lookahead = 8

    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> Block | None:
        return Block("mark", "because") if "Nightjar" in chunk.text else None


class Later(Policy):
    waits = True

    @hookimpl
    async def on_content_completed(self, content: ContentCompleted) -> Block | None:
        return Block("mark", "because") if "Nightjar" in content.text else None


async def left(policies: list[Any], *events: dict[str, Any], step: int) -> Sent:
    sent = await through(policies, wire(*events), format=API, step=step)
    assert reads(API, sent.body, stream=True)
    return sent


@steps
@pytest.mark.parametrize(
    "events",
    [
        (started(GOOD), *LATER_BAD),
        (started(GOOD, BAD),),
        (started(BAD, GOOD),),
        (started(BAD), begun(1, "tool_use", name="good"), stopped(1)),
    ],
    ids=["behind it", "beside it", "before it", "before one that follows"],
)
async def test_it_stands_before_the_call_that_stands_in_the_start_of_the_message(
    events: tuple[dict[str, Any], ...], step: int
) -> None:
    sent = await left([Forbids()], *events, *finished("tool_use"), step=step)
    assert sent.left.text == "because"
    assert [each.name for each in sent.left.tool_calls] == ["good"]
    assert sent.left.finish == ("tool_use",)
    assert sent.left.problems == []


@pytest.mark.parametrize("step", [1])
@pytest.mark.parametrize("policy", [NoMark, Later])
async def test_a_text_behind_a_call_that_has_left_says_why_it_ends(policy: type[Policy], step: int) -> None:
    """The client has its beginning already, and an empty text would be refused with the next request."""
    text = (begun(1), said(1, "a Nightjar"), stopped(1))
    call = (begun(0, "tool_use", name="good"), stopped(0))
    sent = await left([policy()], started(), *call, *text, *finished("tool_use"), step=step)
    assert sent.outcome.status.value == "blocked"
    assert sent.left.text.endswith("\n\nbecause")
    assert "Nightjar" not in sent.left.text
    assert sent.left.finish == ("tool_use",)
    assert sent.left.problems == ["text follows a tool_use"]  # which is upstream's
