"""The hooks of a guard, compiled once: which calls, in which order, and what they make the engine hold back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from luthien_guard.engine.groups import grouped
from luthien_guard.engine.version import version_of
from luthien_guard.events import CHANNELS
from luthien_guard.hooks import HookCall, Registered
from luthien_guard.registry import build

__all__ = ["Plan", "TextStagePlan"]

_RESPONSE_HOOKS: Final = (
    "on_response_started",
    "on_chunk_started",
    "on_content_chunk",
    "on_tool_call_chunk",
    "on_content_completed",
    "on_tool_call_completed",
    "on_unknown_chunk",
    "on_chunk_completed",
    "on_response_completed",
)


@dataclass(frozen=True, slots=True)
class TextStagePlan:
    """One policy's part in the chain that a text goes through: per delta or window, or whole."""

    call: HookCall
    whole: bool
    lookahead: int
    channels: frozenset[str]

    @property
    def shadow(self) -> bool:
        return self.call.registered.mode == "shadow"

    def holds(self) -> str | None:
        """What this stage keeps back, in words; None if nothing."""
        if self.shadow:
            return None
        if self.whole:
            return "text: whole"
        return f"text: {self.lookahead} characters" if self.lookahead else None


class Plan:
    """Everything about the policies that does not change between exchanges."""

    def __init__(
        self, items: Iterable[Any] = (), *, mode: str = "enforce", allow_paths: bool = False
    ) -> None:
        self.registered: tuple[Registered, ...]
        registered, calls = build(items, allow_paths=allow_paths)
        self.registered = tuple(registered)
        if mode == "observe":
            calls = {hook: [_shadowed(call) for call in found] for hook, found in calls.items()}
        self.mode = mode
        self.version = version_of(registered, mode)
        self.calls: Mapping[str, tuple[HookCall, ...]] = {
            hook: tuple(grouped(hook, found)) for hook, found in calls.items()
        }
        self.text = tuple(_text_stages(self.calls))
        self.text_by_channel = {
            channel: tuple(stage for stage in self.text if channel in stage.channels) for channel in CHANNELS
        }
        self.call_fragments = self.calls["on_tool_call_chunk"]
        self.call_completed = self.calls["on_tool_call_completed"]
        # A verdict on a fragment is one on the call, which leaves whole or not at all.
        self.holds_calls = any(_enforces(call) for call in (*self.call_completed, *self.call_fragments))
        self.calls_wait = any(_is_awaited(call) for call in self.call_completed)
        self.holds_response = any(
            _enforces(call) and call.registered.policy.hold == "response"
            for call in self.calls["on_response_completed"]
        )
        self.response_waits = any(_is_awaited(call) for call in self.calls["on_response_completed"])
        #: The first that must see what the provider keeps of a conversation.
        self.needs_history = next(
            (
                each.name
                for each in registered
                if each.policy.needs_history and each.mode == "enforce" and mode != "observe"
            ),
            None,
        )
        self.looks_at_request = bool(self.calls["on_request_started"] or self.calls["on_request_completed"])
        self.looks_at_response = any(self.calls[hook] for hook in _RESPONSE_HOOKS)
        self.ends_at_once = not (self.calls["on_exchange_closed"] or self.calls["on_error"])
        # on_response_completed alone needs the pieces, but objects to nothing that it could not read
        self.enforces = any(_enforces(call) for hook in _RESPONSE_HOOKS for call in self.calls[hook])
        self.holds_start = (
            self.holds_calls or self.holds_response or any(stage.holds() for stage in self.text)
        )

    def bounds(self) -> list[tuple[str, str]]:
        """(policy, what it holds back) for everything that is held: the leak bound, as told to the operator."""
        found = [
            (each.registered.name, held)
            for stage in self.text
            if (held := stage.holds())
            for each in stage.call.each
        ]
        found += [
            (name, "tool calls: whole")
            for name in dict.fromkeys(
                each.registered.name
                for call in (*self.call_completed, *self.call_fragments)
                if _enforces(call)
                for each in call.each
            )
        ]
        found += [
            (each.registered.name, "response: whole")
            for call in self.calls["on_response_completed"]
            if _enforces(call) and call.registered.policy.hold == "response"
            for each in call.each
        ]
        return found


def _enforces(call: HookCall) -> bool:
    return call.registered.mode == "enforce"


def _is_awaited(call: HookCall) -> bool:
    return call.registered.policy.waits and not call.aside


def _shadowed(call: HookCall) -> HookCall:
    shadow = dataclasses.replace(call.registered, mode="shadow")
    return dataclasses.replace(call, registered=shadow)


def _text_stages(calls: Mapping[str, tuple[HookCall, ...]]) -> list[TextStagePlan]:
    """A chain in configuration order; a policy with both hooks sees the deltas first, then the whole."""
    found = [_stage(call, whole=False) for call in calls["on_content_chunk"]]
    found += [_stage(call, whole=True) for call in calls["on_content_completed"]]
    return sorted(found, key=lambda stage: (stage.call.tier, stage.call.position, stage.whole))


def _stage(call: HookCall, *, whole: bool) -> TextStagePlan:
    policy = call.registered.policy
    channels = frozenset(CHANNELS) if policy.channels is None else policy.channels
    return TextStagePlan(call, whole, 0 if whole else policy.lookahead, channels)
