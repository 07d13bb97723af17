"""What a policy says to the client is told whatever it consists of."""

from __future__ import annotations

import pytest

from luthien_guard import Block, ChatRequest, Policy, ToolCall, hookimpl
from luthien_guard.testing import Script, run

pytestmark = pytest.mark.anyio

WORDS = "no \udc80 way"


class Calls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> Block:
        return Block("\udc80", message=WORDS)


class Requests(Policy):
    @hookimpl
    def on_request_started(self, request: ChatRequest) -> Block:
        return Block("\udc80", message=WORDS)


@pytest.mark.parametrize("policy", [Calls, Requests])
async def test_half_a_surrogate_pair_in_a_message_breaks_nothing(policy: type[Policy]) -> None:
    for each in await run(policy(), Script().text("look: ").tool_call("bash", {"cmd": "ls"})):
        assert "no ? way" in each.transcript.text
        assert not each.transcript.problems
