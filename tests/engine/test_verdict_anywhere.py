"""Every hook that decides may return every verdict, and each means there what docs/policies.md says."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard import Abort, Block, Policy, PolicyContext, Retry, hookimpl
from luthien_guard.exchange import OutcomeStatus
from luthien_guard.hooks import HOOKS
from luthien_guard.testing import Runs, Script, run

pytestmark = pytest.mark.anyio

ON_REQUEST = ("on_request_started", "on_request_completed")
OBSERVING = ("on_error", "on_exchange_closed")
DECIDING = tuple(hook for hook in HOOKS if hook not in OBSERVING)
SAID = Script().text("one ").tool_call("bash", {"cmd": "ls"})
UNREADABLE = Script().raw(b"{nonsense").text("one")


class Once(Policy):
    """Returns its verdict from one hook, the first time in an exchange."""

    def __init__(self, hook: str, verdict: Any) -> None:
        self.hook = hook
        self.verdict = verdict
        self.hold = "response" if hook == "on_response_completed" else ""

    def listens(self, hook: str) -> bool:
        return hook == self.hook

    def _say(self, ctx: PolicyContext) -> Any:
        first = "said" not in ctx.scratchpad
        ctx.scratchpad["said"] = True
        return self.verdict if first else None

    @hookimpl
    def on_request_started(self, ctx: PolicyContext) -> Any:
        return self._say(ctx)

    on_request_completed = on_chunk_started = on_response_started = on_content_chunk = on_request_started
    on_tool_call_chunk = on_content_completed = on_tool_call_completed = on_unknown_chunk = on_request_started
    on_chunk_completed = on_response_completed = on_error = on_exchange_closed = on_request_started


async def _runs(hook: str, verdict: Any) -> Runs:
    first = UNREADABLE if hook == "on_unknown_chunk" else SAID
    return await run(Once(hook, verdict), [first, Script().text("second")], streamed=[False], cuts="whole")


@pytest.mark.parametrize("verdict", [Block("no"), Abort("no")])
@pytest.mark.parametrize("hook", DECIDING)
async def test_a_block_or_an_abort_takes_something_away(hook: str, verdict: Any) -> None:
    (await _runs(hook, verdict)).assert_blocked("once", reason__contains="no")


@pytest.mark.parametrize("hook", [hook for hook in DECIDING if hook not in ON_REQUEST])
async def test_a_retry_is_answered_by_another_attempt(hook: str) -> None:
    (await _runs(hook, Retry("again"))).assert_released("second")


@pytest.mark.parametrize("hook", ON_REQUEST)
async def test_a_retry_about_a_request_ends_the_exchange(hook: str) -> None:
    runs = await _runs(hook, Retry("again"))
    runs.assert_blocked("once", reason__contains="again")
    assert not runs.upstream.requests


@pytest.mark.parametrize("verdict", [Block("no"), Abort("no"), Retry("again")])
@pytest.mark.parametrize("hook", OBSERVING)
async def test_who_only_observes_has_no_say(hook: str, verdict: Any) -> None:
    for each in await _runs(hook, verdict):
        assert each.outcome is not None
        assert each.outcome.status is OutcomeStatus.SUCCESS
