"""A call without arguments is the same call in a stream and in a body (law 4)."""

from __future__ import annotations

import pytest

from luthien_guard import Policy, ToolCall, hookimpl
from luthien_guard.testing import Script, run

pytestmark = pytest.mark.anyio


async def test_policies_see_the_same_arguments_streamed_or_not() -> None:
    seen: dict[str, set[str]] = {}

    class Sees(Policy):
        @hookimpl
        def on_tool_call_completed(self, call: ToolCall, ctx: object) -> None:
            seen.setdefault(ctx.wire_format, set()).add(call.arguments)  # type: ignore[attr-defined]

    await run(Sees(), Script().tool_call("now", "{}").finish("tool_calls"))
    assert seen["anthropic.messages"] == {"{}"}
    assert all(len(found) == 1 for found in seen.values())
