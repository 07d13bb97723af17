"""Runs of a policy, and what holds for each of them by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from luthien_guard.exchange import Outcome
from luthien_guard.policy import Policy, PolicyContext, hookimpl
from luthien_guard.testing.cuts import Cut, Cuts
from luthien_guard.testing.exchange import Played
from luthien_guard.testing.runs import Runs, run
from luthien_guard.testing.script import Script

__all__ = ["check", "run_checked"]


async def run_checked(
    what: str,
    policy: Any,
    script: Script,
    cuts: Cuts | Iterable[Cut],
    options: Mapping[str, Any],
    **more: Any,
) -> Runs:
    """Run and check what holds for every run."""
    closed: dict[str, int] = {}
    enforced = _is_enforced(policy, options)
    try:
        runs = await run([policy, _Witness(closed)], script, cuts=cuts, **{**options, **more})
    except Exception as error:
        raise AssertionError(f"{what}: the guard raised {type(error).__name__}: {error}") from error
    for each in runs:
        _check_run(what, each, closed.get(each.call_id, 0), enforced=enforced)
    try:
        runs.assert_legal()
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from None
    return runs


def _check_run(what: str, run: Played, ends: int, *, enforced: bool) -> None:
    errors = [record for record in run.records if record.type.value == "policy.error"]
    told = "; ".join(f"{record.details.get('hook')}: {record.details.get('error')}" for record in errors)
    check(what, run, not errors, f"the policy failed: {told}")
    late = _ineffective(run) if enforced else None
    check(what, run, late is None, f"{late} comes too late to have an effect")
    check(what, run, ends == 1, f"on_exchange_closed was called {ends} times")


class _Witness(Policy):
    """Stands behind the policy and counts the ends."""

    def __init__(self, closed: dict[str, int]) -> None:
        self._closed_by_call = (closed.__setitem__, closed.get)

    @hookimpl
    def on_exchange_closed(self, outcome: Outcome, ctx: PolicyContext) -> None:
        put, get = self._closed_by_call
        put(ctx.call_id, get(ctx.call_id, 0) + 1)


def _is_enforced(policy: Any, options: Mapping[str, Any]) -> bool:
    mode = policy.get("mode", "enforce") if isinstance(policy, Mapping) else "enforce"
    return mode == "enforce" and options.get("mode", "enforce") == "enforce"


def _ineffective(run: Played) -> str | None:
    """A verdict that nobody could act on."""
    for record in run.records:
        if record.type.value == "policy.verdict" and not record.details["enforced"]:
            hint = " without hold = 'response'" * (record.details["hook"] == "on_response_completed")
            return f"{record.details['verdict']} from {record.details['hook']}{hint}"
    return None


def check(what: str, run: Played, true: bool, message: str) -> None:
    if not true:
        raise AssertionError(f"{what}: {run.label}: {message}")
