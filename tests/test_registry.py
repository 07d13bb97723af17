"""Misuse of policies is told at start, precisely."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard.engine.plan import Plan
from luthien_guard.errors import ConfigError
from luthien_guard.events import ContentChunk, ToolCall
from luthien_guard.policy import Policy, PolicyContext, hookimpl
from luthien_guard.registry import available


class Sees(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: ContentChunk) -> None: ...


class Second(Sees): ...


class First(Policy):
    @hookimpl(tryfirst=True)
    def on_content_chunk(self, chunk: ContentChunk) -> None: ...


class Last(Policy):
    @hookimpl(trylast=True)
    def on_content_chunk(self, chunk: ContentChunk) -> None: ...


class UnknownHook(Policy):
    @hookimpl
    def on_tool_call_complete(self, call: ToolCall) -> None: ...


class WrongArgument(Policy):
    @hookimpl
    def on_tool_call_completed(self, cal: ToolCall) -> None: ...


class Unmarked(Policy):
    def on_tool_call_completed(self, call: ToolCall) -> None: ...


class Mutable(Policy):
    def __init__(self) -> None:
        self.seen: list[str] = []


class Wrapper(Policy):
    @hookimpl(wrapper=True)
    def on_content_chunk(self, chunk: ContentChunk) -> Any:
        return (yield)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (Sees, r"Sees is a class: give an instance, Sees\(\.\.\.\)"),
        (object(), "is no policy: subclass luthien_guard.Policy"),
        ("nope", "no policy 'nop' (did you mean 'noop'?) is installed"),
        (
            "os:path",
            "no policy 'os:path' is installed; a class by its path is loaded with allow_paths=True only",
        ),
        ({"use": "noop", "mod": "shadow"}, r"unknown key 'mod' \(did you mean 'mode'\?\)"),
        ({"use": "noop", "mode": "on"}, "mode of noop is 'on'"),
        ({"use": "noop", "on_error": "ignore"}, "on_error of noop is 'ignore'"),
        ({"use": "noop", "timeout": 0}, "timeout of noop is 0"),
        ({"config": {}}, "need `use`"),
        ({"use": Sees}, r"`use` is the class Sees: give an instance"),
        (
            {"use": "uppercase-nth-word", "config": {"n": 0}},
            "configuration of policy 'uppercase-nth-word': n is 0",
        ),
        ({"use": "uppercase-nth-word", "config": {"m": 1}}, "unknown key 'm'"),
        ({"use": "tool-call-judge", "config": {"message": "{tool_nam}"}}, "unknown variable {tool_nam}"),
        ({"use": "tool-call-judge", "config": {"threshold": 1.5}}, "threshold is 1.5"),
        (
            UnknownHook(),
            r"unknown hook 'on_tool_call_complete' \(did you mean 'on_tool_call_completed'\?\)|looks like",
        ),
        (WrongArgument(), "cal"),
        (Unmarked(), "Unmarked|unmarked"),
        (Mutable(), "mutable.seen is a list"),
        (Wrapper(), "wrappers cannot span"),
    ],
)
def test_misuse_is_told(item: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message if item != "nope" else None) as told:
        Plan([item])
    if item == "nope":
        assert "'nope'" in str(told.value)


def test_a_class_that_cannot_be_found_by_path_is_told() -> None:
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Plan(["nowhere:Nothing"], allow_paths=True)
    with pytest.raises(ConfigError, match="not a subclass"):
        Plan(["os.path:join"], allow_paths=True)


def test_the_same_instance_twice_is_told_and_the_same_policy_twice_is_numbered() -> None:
    policy = Sees()
    with pytest.raises(ConfigError, match="stands twice"):
        Plan([policy, policy])
    assert [each.name for each in Plan([Sees(), Sees()]).registered] == ["sees", "sees#2"]


def test_policies_run_in_the_order_of_the_configuration() -> None:
    plan = Plan([Last(), Sees(), Second(), First()])
    names = [call.registered.name for call in plan.calls["on_content_chunk"]]
    assert names == ["first", "sees", "second", "last"]
    assert [stage.call.registered.name for stage in plan.text] == names


def test_installed_does_not_mean_active() -> None:
    assert {"noop", "uppercase-nth-word", "tool-call-judge", "default-limits"} <= set(available())
    assert not Plan([]).looks_at_response


def test_a_policy_that_is_off_is_never_called() -> None:
    assert Plan([{"use": Sees(), "mode": "off"}]).calls["on_content_chunk"] == ()


def test_a_hook_that_nobody_needs_holds_nothing() -> None:
    assert Plan([{"use": "default-limits", "config": {"max_tokens": 5}}]).bounds() == []
    bounds = Plan([{"use": "default-limits", "config": {"forbidden_words": ["abc"]}}]).bounds()
    assert bounds == [("default-limits", "text: 3 characters"), ("default-limits", "tool calls: whole")]


def test_hooks_may_take_any_subset_of_the_arguments() -> None:
    class Few(Policy):
        @hookimpl
        def on_content_chunk(self) -> str:
            return "none"

        @hookimpl
        def on_tool_call_completed(self, ctx: PolicyContext) -> Any:
            return ctx

        @hookimpl
        def on_content_completed(self, ctx: PolicyContext, content: Any) -> Any:
            return (ctx, content)

    calls = Plan([Few()]).calls
    assert calls["on_content_chunk"][0].function("chunk", "ctx") == "none"
    assert calls["on_tool_call_completed"][0].function("call", "ctx") == "ctx"
    assert calls["on_content_completed"][0].function("content", "ctx") == ("ctx", "content")


class Hasty(Sees):
    timeout = 2.5


@pytest.mark.parametrize("own", [f"{__name__}:Hasty", {"use": f"{__name__}:Hasty"}])
def test_a_policy_keeps_its_own_timeout_however_it_is_named(own: Any) -> None:
    plan = Plan([own], allow_paths=True)
    assert [(each.name, each.timeout) for each in plan.registered] == [("Hasty", 2.5)]
