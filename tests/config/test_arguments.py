"""What a guard is given is checked where it is made: a typo there would be found by traffic."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard import Guard, Limits
from luthien_guard.errors import ConfigError


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"mode": "Observe"}, "mode is 'Observe' (did you mean 'observe'?): use one of enforce, observe"),
        (
            {"durability": "stric"},
            "durability is 'stric' (did you mean 'strict'?): use one of balanced, strict",
        ),
        ({"durability": "stric", "store": "memory://"}, "durability is 'stric'"),
        (
            {"on_unrecorded": "alow"},
            "on_unrecorded is 'alow' (did you mean 'allow'?): use one of block, allow",
        ),
        ({"on_unrecorded": False}, "on_unrecorded is False: use one of block, allow"),
        ({"limits": {"hook_timeout": 1}}, "limits is a dict: give Limits(...)"),
        ({"judge": "gpt-5-mini"}, "judge is a str: give a function that answers `ctx.judge(...)`"),
        ({"sinks": ["jsonl:///x"]}, "sinks has 'jsonl:///x', which has no `put`: give objects; a URL"),
        ({"sinks": "jsonl:///x"}, "sinks has 'j', which has no `put`"),
        ({"policy_sets": [("a", ["noop"])]}, "policy_sets is a list: give a mapping, by name"),
        ({"policy_sets": {None: ["noop"]}}, "policy_sets has None: the name of a set is a str"),
        ({"policy_sets": {"a": None}}, "policy_sets['a'] is a NoneType: give a list"),
    ],
)
def test_what_no_guard_can_be_made_of_is_told(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Guard(["noop"], **arguments)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max_held_bytes", "1", "a whole number, more than 0"),
        ("max_held_bytes", 0, "a whole number, more than 0"),
        ("max_held_bytes", 1.5, "a whole number, more than 0"),
        ("max_blocks", True, "a whole number, more than 0"),
        ("max_retries", -1, "a whole number, 0 or more"),
        ("hook_timeout", -1, "a number of seconds, more than 0"),
        ("hook_timeout", float("nan"), "a number of seconds, more than 0"),
        ("hook_timeout", "3", "a number of seconds, more than 0"),
        ("hook_timeout", None, "a number of seconds, more than 0"),
    ],
)
def test_a_limit_that_is_none_is_told(name: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Limits(**{name: value})
    assert str(caught.value) == f"limits: {name} is {value!r}: use {says}"


def test_limits_that_are_some() -> None:
    assert (
        Guard(limits=Limits(max_retries=0, hook_timeout=1, total_timeout=float("inf"))).limits.max_retries
        == 0
    )
