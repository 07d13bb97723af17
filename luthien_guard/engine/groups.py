"""Policies of a group are asked at once: none of them waits for what another one says.

So each of them sees what the policies before the group left, and has a say only: what one of them changed, the others would
not have seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from luthien_guard.hooks import HookCall, Registered
from luthien_guard.policy import Policy

__all__ = ["grouped"]

#: Hooks on a whole thing. Pieces of one go through the policies in turn.
_ON_WHOLE: Final = frozenset(
    {"on_request_started", "on_content_completed", "on_tool_call_completed", "on_response_completed"}
)


class _Group(Policy):
    """Stands for its members in the plan."""

    waits = True
    hold = "response"

    def __init__(self, channels: frozenset[str] | None) -> None:
        self.channels = channels


def grouped(hook: str, calls: Iterable[HookCall]) -> Iterator[HookCall]:
    """The calls of a hook in their order, neighbours of one group as one. Who only looks on stays alone."""
    for group, found in groupby(calls, _group_of):
        members = tuple(found)
        if hook not in _ON_WHOLE or group is None or len(members) == 1:
            yield from members
        else:
            yield _together(hook, members)


def _group_of(call: HookCall) -> Any:
    """Texts that not all of them look at would have to go around some."""
    registered = call.registered
    if registered.group is None or not call.enforces:
        return None
    return registered.group, call.tier, registered.policy.channels


def _together(hook: str, members: tuple[HookCall, ...]) -> HookCall:
    last = members[-1]
    name = " + ".join(each.registered.name for each in members)
    registered = Registered(_Group(last.registered.policy.channels), name, group=last.registered.group)
    return HookCall(registered, hook, _never, last.position, True, last.tier, members)


def _never(*_: Any) -> None:
    raise AssertionError("its members are asked")
