"""Fields that a conversion lost, found by looking at what was sent."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard.gateway.upstreams.conversion import dropped_fields

USER = {"role": "user", "content": "hello there"}


@pytest.mark.parametrize(
    ("given", "sent", "lost"),
    [
        ({"model": "a", "stream": True}, {"model": "b"}, []),
        ({"seed": 7}, {}, ["seed"]),
        ({"seed": 7, "n": None, "stop": [], "metadata": {}}, {"seed": 7}, []),
        ({"max_tokens": 512}, {"max_output_tokens": 512}, []),
        ({"max_tokens": 512}, {"max_output_tokens": 100}, ["max_tokens"]),
        ({"logprobs": True}, {"other": True}, ["logprobs"]),
        ({"parallel_tool_calls": False}, {"tool_choice": {"disable_parallel_tool_use": True}}, []),
        ({"system": "be brief"}, {"messages": [{"role": "system", "content": "be brief"}]}, []),
        ({"messages": [USER]}, {"input": [{"content": [{"text": "hello there"}]}]}, []),
        ({"messages": [USER]}, {"input": []}, ["messages"]),
        ({"messages": [{**USER, "name": "ann"}]}, {"messages": [USER]}, ["messages.name"]),
        (
            {
                "messages": [
                    {"content": [{"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}]}
                ]
            },
            {"messages": [{"content": "long"}]},
            ["messages.cache_control"],
        ),
        (
            {
                "messages": [
                    {"tool_calls": [{"id": "c1", "function": {"name": "ls", "arguments": '{"dir": "src"}'}}]}
                ]
            },
            {"messages": [{"content": [{"id": "c1", "name": "ls", "input": {"dir": "src"}}]}]},
            [],
        ),
        (
            {"messages": [{"content": [{"id": "c1", "name": "ls", "input": {"dir": "src"}}]}]},
            {"input": [{"call_id": "c1", "name": "ls", "arguments": '{"dir": "src"}'}]},
            [],
        ),
        ({"image": {"data": "QUJDREVG"}}, {"url": "data:image/png;base64,QUJDREVG"}, []),
    ],
)
def test_lost_is_what_is_nowhere(given: dict[str, Any], sent: Any, lost: list[str]) -> None:
    assert dropped_fields(given, sent) == lost


def test_no_json_upsets_it() -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"a": [deep, "{broken", "[" * 50]}
    assert isinstance(dropped_fields(deep, deep), list)
    assert dropped_fields({"a": 1}, None) == ["a"]
