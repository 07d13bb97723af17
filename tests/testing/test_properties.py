"""Whatever is said, however it is cut: what no policy changes leaves as it came."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings

from luthien_guard import Policy, ToolCall, hookimpl
from luthien_guard.policies.noop import Noop
from luthien_guard.testing import Cut, Script, run, strategies

#: Ends of a line to some clients: they leave escaped (law 2).
LINE_ENDS = "\u2028\u2029\u0085"


class LooksAtCalls(Policy):
    """Holds every call and lets it go."""

    @hookimpl
    def on_tool_call_completed(self, call: ToolCall) -> None:
        assert isinstance(call.arguments, str)


@pytest.mark.parametrize("policy", [Noop(), LooksAtCalls()], ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(script=strategies.scripts(), cut=strategies.cuts())
@settings(max_examples=10)
def test_identity(policy: Policy, backend: str, script: Script, cut: Cut) -> None:
    async def check() -> None:
        runs = await run(policy, script, cuts=[cut])
        for each in runs:
            if not any(end.encode() in each.upstream.sent for end in LINE_ENDS):
                assert each.body == each.upstream.sent, each.label
        runs.assert_released()

    anyio.run(check, backend=backend)


@given(script=strategies.scripts(broken=True), cut=strategies.cuts())
@settings(max_examples=10)
def test_a_broken_upstream_never_raises(script: Script, cut: Cut) -> None:
    async def check() -> None:
        for each in await run(LooksAtCalls(), script, cuts=[cut]):
            assert each.outcome.status.value in ("upstream_error", "timeout", "cancelled", "success")

    anyio.run(check)
