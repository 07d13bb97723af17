"""What a policy declares is checked at start: a typo there would turn it off without a word."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from luthien_guard import Guard
from luthien_guard.engine.plan import Plan
from luthien_guard.errors import ConfigError
from luthien_guard.hooks import HOOKS
from luthien_guard.policy import Policy, hookimpl

NAN, INF = float("nan"), float("inf")


class Text(Policy):
    @hookimpl
    def on_content_chunk(self, chunk: Any) -> Any: ...


class Whole(Policy):
    @hookimpl
    def on_response_completed(self, response: Any) -> Any: ...


class Calls(Policy):
    @hookimpl
    def on_tool_call_completed(self, call: Any) -> Any: ...


def declaring(base: type[Policy], **declared: Any) -> Policy:
    return type("Declares", (base,), declared)()


def with_hook(function: Callable[..., Any], **marks: Any) -> Policy:
    return declaring(Policy, on_content_chunk=hookimpl(**marks)(function))


def told(make: Callable[[], Any], *parts: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert [part for part in parts if part not in str(error.value)] == [], str(error.value)


@pytest.mark.parametrize(
    ("base", "attribute", "value", "allowed"),
    [
        (Whole, "hold", "respons", "(did you mean 'response'?): use 'response' or ''"),
        (Whole, "hold", "Response", "(did you mean 'response'?)"),
        (Whole, "hold", True, "use 'response' or ''"),
        (Text, "channels", "content", "use None or a frozenset of content, reasoning, refusal"),
        (Text, "channels", ["content"], "use None or a frozenset"),
        (Text, "channels", {"content": True}, "use None or a frozenset"),
        (Text, "channels", 5, "use None or a frozenset"),
        (Text, "channels", frozenset(), "it would look at nothing"),
        (Text, "lookahead", -5, "use a whole number of characters, 0 or more"),
        (Text, "lookahead", "7", "use a whole number"),
        (Text, "lookahead", 2.5, "use a whole number"),
        (Text, "lookahead", True, "use a whole number"),
        (Text, "lookahead", None, "use a whole number"),
        (Text, "waits", "no", "use True or False"),
        (Text, "waits", 1, "use True or False"),
        (Text, "asks_judge", "no", "use True or False"),
        (Text, "timeout", -1, "use a finite number of seconds, more than 0, or None"),
        (Text, "timeout", 0, "use a finite number"),
        (Text, "timeout", "5", "use a finite number"),
        (Text, "timeout", True, "use a finite number"),
        (Text, "timeout", NAN, "use a finite number"),
        (Text, "timeout", INF, "use a finite number"),
        (Text, "name", 5, "use a str"),
        (Text, "name", None, "use a str"),
        (Calls, "remember", "60", "use a finite number of seconds, 0 or more"),
        (Calls, "remember", -1.0, "use a finite number"),
        (Calls, "remember", True, "use a finite number"),
        (Calls, "remember", INF, "use a finite number"),
    ],
)
@pytest.mark.parametrize("mode", ["enforce", "off"])
def test_what_cannot_be_declared_is_told(
    base: type[Policy], attribute: str, value: Any, allowed: str, mode: str
) -> None:
    policy = declaring(base, **{attribute: value})
    told(lambda: Plan([{"use": policy, "mode": mode}]), f"{attribute} of declares is {value!r}", allowed)


def test_channels_that_nobody_knows_are_told() -> None:
    policy = declaring(Text, channels=frozenset({"contents"}))
    told(lambda: Plan([policy]), "channels of declares", "'contents' (did you mean 'content'?)", "refusal")
    told(lambda: Plan([declaring(Text, channels=("content", 3))]), "channels of declares", "3")
    told(lambda: Plan([declaring(Text, channels=("content", ["other"]))]), "['other']")


def test_what_is_declared_for_a_hook_that_is_not_there_is_told() -> None:
    told(lambda: Plan([declaring(Text, hold="response")]), "hold of declares", "on_response_completed")
    told(lambda: Plan([declaring(Whole, lookahead=3)]), "lookahead of declares is 3", "on_content_chunk")


def test_what_may_be_declared() -> None:
    Plan(
        [
            declaring(
                Whole, hold="response", lookahead=0, waits=True, timeout=0.5, name="a b", remember="mine"
            ),
            declaring(Text, channels=("content", "other"), lookahead=3, timeout=5),
            declaring(Text, channels=frozenset({"content"}), timeout=None),
            declaring(Text, channels={"reasoning"}),
            declaring(Calls, remember=0),
            {"use": Calls(), "timeout": None, "name": None, "config": None},
        ]
    )


def test_a_hook_under_another_method_name_counts() -> None:
    def look(self: Any, chunk: Any) -> Any: ...

    policy = declaring(Policy, look=hookimpl(specname="on_content_chunk")(look), lookahead=3)
    assert Plan([policy]).bounds() == [("declares", "text: 3 characters")]


@pytest.mark.parametrize("timeout", [NAN, INF, -INF, -1, "5", True])
def test_a_timeout_in_the_settings_is_seconds(timeout: Any) -> None:
    told(lambda: Plan([{"use": "noop", "timeout": timeout}]), f"timeout of noop is {timeout!r}", "finite")


@pytest.mark.parametrize("name", [5, ["x"], True, 0])
def test_a_name_in_the_settings_is_text(name: Any) -> None:
    told(lambda: Plan([{"use": "noop", "name": name}]), f"name of noop is {name!r}", "use a str")


def test_a_configuration_that_nobody_reads_is_told() -> None:
    item = {"use": Text(), "config": {"threshold": "hunter2"}}
    told(lambda: Plan([item]), "config of text", "instance")
    with pytest.raises(ConfigError) as error:
        Plan([item])
    assert "hunter2" not in str(error.value)


def test_a_key_that_is_no_text_is_told() -> None:
    told(lambda: Plan([{"use": "noop", 5: 1}]), "unknown key 5 in a policy's settings")
    told(lambda: Plan([{"use": "noop", 5: 1, "mod": 2, None: 3}]), "unknown key")


@pytest.mark.parametrize("names", [["x", "x", "x#2"], ["x#2", "x", "x"], ["x", "x#2", "x"]])
def test_names_that_collide_are_told(names: list[str]) -> None:
    told(lambda: Plan([{"use": Text(), "name": name} for name in names]), "two policies are called 'x#2'")


@pytest.mark.parametrize(
    ("policies", "kind"),
    [
        (Text(), "Text"),
        (Text, "type"),
        ("noop", "str"),
        (b"noop", "bytes"),
        ({"use": "noop", "config": {"key": "hunter2"}}, "dict"),
        (None, "NoneType"),
        (5, "int"),
    ],
)
def test_policies_that_are_no_list_are_told(policies: Any, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"^policies is a {kind}: give a list") as error:
        Guard(policies)
    assert "hunter2" not in str(error.value)
    with pytest.raises(ConfigError, match=re.escape(f"policy_sets['ci'] is a {kind}: give a list")):
        Guard(policy_sets={"ci": policies})


def test_policies_may_come_from_anything_that_is_iterated() -> None:
    assert Guard(iter([Text()])).policies == Guard((Text(),)).policies == ("text",)


@pytest.mark.parametrize(
    ("function", "parameter"),
    [
        (lambda self, *, chunk: None, "'chunk'"),
        (lambda self, chunk, *, ctx=None: None, "'ctx'"),
        (lambda self, chunk, *, limit: None, "'limit'"),
        (lambda self, ctx, chunk, /: None, "'ctx'"),
        (lambda self, ctx, /: None, "'ctx'"),
        (lambda self, ctx, /, chunk: None, "'ctx'"),
        (lambda self, *args: None, "'args'"),
        (lambda self, **kwargs: None, "'kwargs'"),
        (lambda self, chunk, **kwargs: None, "'kwargs'"),
        (lambda self, chunk, *ctx: None, "'ctx'"),
        (lambda self, *args, **kwargs: None, "'args'"),
    ],
)
def test_parameters_that_would_get_nothing_are_told(function: Callable[..., Any], parameter: str) -> None:
    told(
        lambda: Plan([with_hook(function)]), f"declares.on_content_chunk: parameter {parameter}", "chunk, ctx"
    )


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (lambda self, chunk, ctx=None: (chunk, ctx), ("chunk", "ctx")),
        (lambda self, ctx=None, chunk=None: (chunk, ctx), ("chunk", "ctx")),
        (lambda self, limit=5, chunk=None: (limit, chunk), (5, "chunk")),
        (lambda self, chunk, limit=5, ctx=None: (chunk, limit, ctx), ("chunk", 5, "ctx")),
        (lambda self, chunk, ctx, *args, **kwargs: (chunk, ctx, *args), ("chunk", "ctx")),
        (lambda self, chunk, *, limit=5: (chunk, limit), ("chunk", 5)),
        (lambda self, chunk, ctx, /: (chunk, ctx), ("chunk", "ctx")),
        (lambda self, chunk, limit=5, /: (chunk, limit), ("chunk", 5)),
        (lambda self, chunk, /, ctx: (chunk, ctx), ("chunk", "ctx")),
    ],
)
def test_parameters_that_can_be_given_are_given(
    function: Callable[..., Any], given: tuple[object, ...]
) -> None:
    (call,) = Plan([with_hook(function)]).calls["on_content_chunk"]
    assert call.function("chunk", "ctx") == given


@pytest.mark.parametrize("marks", [{}, {"tryfirst": True}, {"trylast": True}])
def test_within_a_tier_every_hook_runs_in_the_order_of_the_configuration(marks: Mapping[str, Any]) -> None:
    def policy() -> Policy:
        hooks = {hook: hookimpl(specname=hook, **marks)(lambda self: None) for hook in HOOKS}
        return declaring(Policy, **hooks)

    names = ["a", "b", "c"]
    plan = Plan([{"use": policy(), "name": name} for name in names])
    orders = {hook: [call.registered.name for call in calls] for hook, calls in plan.calls.items()}
    assert orders == dict.fromkeys(HOOKS, names)
    assert list(dict.fromkeys(stage.call.registered.name for stage in plan.text)) == names


BROKEN = {
    "syntax": "def (",
    "raises": "1 / 0",
    "missing": "from luthien_guard import Policy",
    "init": "from luthien_guard import Policy\nclass X(Policy):\n    def __init__(self):\n        open('/nowhere/at/all')",
    "property": "from luthien_guard import Policy\nclass X(Policy):\n    @property\n    def on_x(self):\n        raise KeyError('x')",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_other_people_s_code_raises_is_told_as_a_mistake(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"broken_{kind}.py").write_text(BROKEN[kind])
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ConfigError):
            Plan([f"broken_{kind}:X"], allow_paths=True)
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize("use", ["..:X", ".x:X", ":", "a:", ":b", " : "])
def test_a_path_that_is_none_is_told(use: str) -> None:
    with pytest.raises(ConfigError):
        Plan([use], allow_paths=True)
