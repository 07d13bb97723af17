"""What somebody tries who wants more than the limits allow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard.exchange import ChatRequest
from luthien_guard.policies.default_limits import DefaultLimits
from luthien_guard.policy import Block
from luthien_guard.testing import Script, run


def _clamped(raw: dict[str, Any], wire_format: str = "openai.chat", limit: int = 4096) -> dict[str, Any]:
    changed = DefaultLimits(max_tokens=limit).on_request_started(ChatRequest(wire_format, raw))
    assert not isinstance(changed, Block)
    return dict(raw if changed is None else changed.raw)


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (
            {"max_completion_tokens": 1, "max_tokens": 100_000},
            {"max_completion_tokens": 1, "max_tokens": 4096},
        ),
        (
            {"max_tokens": 1, "max_completion_tokens": 100_000},
            {"max_completion_tokens": 4096, "max_tokens": 1},
        ),
        (
            {"max_completion_tokens": 9999, "max_tokens": 9999},
            {"max_completion_tokens": 4096, "max_tokens": 4096},
        ),
        (
            {"max_completion_tokens": None, "max_tokens": 100_000},
            {"max_completion_tokens": None, "max_tokens": 4096},
        ),
        ({"max_completion_tokens": 10, "max_tokens": -1}, {"max_completion_tokens": 10, "max_tokens": 4096}),
        ({"max_tokens": -5}, {"max_tokens": 4096}),
        ({"max_tokens": 0}, {"max_tokens": 4096}),
        ({"max_tokens": 5.5}, {"max_tokens": 4096}),
        ({"max_tokens": True}, {"max_tokens": 4096}),
        ({"max_tokens": "9"}, {"max_tokens": 4096}),
        ({"max_tokens": None}, {"max_tokens": 4096}),
        ({}, {"max_completion_tokens": 4096}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
    ],
)
def test_every_spelling_is_clamped(asked: dict[str, Any], sent: dict[str, Any]) -> None:
    assert _clamped(asked) == sent


@pytest.mark.parametrize(
    ("wire_format", "key"), [("anthropic.messages", "max_tokens"), ("openai.responses", "max_output_tokens")]
)
def test_in_the_other_wire_formats(wire_format: str, key: str) -> None:
    assert _clamped({key: 100_000}, wire_format) == {key: 4096}
    assert _clamped({key: -1}, wire_format) == {key: 4096}
    assert _clamped({}, wire_format) == {key: 4096}


def test_the_neutral_view_reads_and_writes_every_spelling() -> None:
    both = ChatRequest("openai.chat", {"max_completion_tokens": 1, "max_tokens": 100_000})
    assert both.max_tokens == 100_000
    assert both.replace(max_tokens=5).raw == {"max_completion_tokens": 5, "max_tokens": 5}
    assert both.replace(max_tokens=None).raw == {}
    assert ChatRequest("openai.chat", {"max_tokens": -5}).max_tokens is None
    assert ChatRequest("openai.chat", {}).replace(max_tokens=5).raw == {"max_completion_tokens": 5}


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), 1.5, 4096.0, True, "10", 0, -1])
def test_a_limit_that_is_no_whole_number_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match=r"max_tokens is .*: a whole number from 1"):
        DefaultLimits(max_tokens=limit)


@pytest.mark.parametrize("words", [{"a": "b"}, 5, None, [5], [""], b"ab", [["a"]]])
def test_words_that_are_no_list_of_strings_are_refused(words: Any) -> None:
    with pytest.raises(ValueError, match="forbidden_words"):
        DefaultLimits(forbidden_words=words)


_ALIKE = [
    ("straße", "die STRASSE"),
    ("STRASSE", "die straße"),
    ("ﬁre", "FIRE!"),
    ("FIRE", "a ﬁre"),
    ("İstanbul", "in i\u0307stanbul"),
    ("i\u0307stanbul", "in İSTANBUL"),
    ("ΐ", "x\u03b9\u0308\u0301x"),
    ("\u03b9\u0308\u0301", "xΐx"),
    ("ΛΌΓΟΣ", "ο λόγος"),
    ("hidden", "it is hıdden"),  # what the case of other languages made of it
]


@pytest.mark.anyio
@pytest.mark.parametrize(("word", "text"), _ALIKE)
async def test_case_is_folded_in_full(word: str, text: str) -> None:
    policy = DefaultLimits(forbidden_words=[word])
    prompt = ChatRequest("openai.chat", {"messages": [{"role": "user", "content": text}]})
    assert isinstance(policy.on_request_started(prompt), Block)
    padded = f"{'. ' * 40}{text}{' .' * 40}"
    for size in (1, 3):
        script = Script().text(padded).split(size)
        runs = await run(DefaultLimits(forbidden_words=[word]), script, cuts="whole")
        runs.assert_blocked("default-limits").no_leak(text.rsplit(maxsplit=1)[-1])


_ESCAPED = json.dumps({"a": ["hunter2"]}).replace("h", "\\u0068")


@pytest.mark.parametrize(
    ("wire_format", "raw"),
    [
        (
            "openai.chat",
            {"messages": [{"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": _ESCAPED}}]}]},
        ),
        ("openai.chat", {"messages": [{"function_call": {"name": "f", "arguments": _ESCAPED}}]}),
        ("openai.responses", {"input": [{"type": "function_call", "name": "f", "arguments": _ESCAPED}]}),
        (
            "openai.chat",
            {"messages": [{"function_call": {"arguments": f'{{"a": {_ESCAPED}, "a": 1}}'}}]},  # said twice
        ),
    ],
)
def test_escapes_hide_nothing_in_the_calls_of_a_prompt(wire_format: str, raw: dict[str, Any]) -> None:
    policy = DefaultLimits(forbidden_words=["hunter2"])
    assert isinstance(policy.on_request_started(ChatRequest(wire_format, raw)), Block)
    innocent = json.loads(json.dumps(raw).replace("unter2", "arbour"))  # the escape stays
    assert policy.on_request_started(ChatRequest(wire_format, innocent)) is None


def test_arguments_too_deep_to_be_read_are_blocked() -> None:
    policy, deep = DefaultLimits(forbidden_words=["hunter2"]), "[" * 100_000
    raw = {"messages": [{"function_call": {"name": "f", "arguments": deep}}]}
    assert isinstance(policy.on_request_started(ChatRequest("openai.chat", raw)), Block)


@pytest.mark.anyio
async def test_keys_said_twice_hide_nothing_in_an_answer() -> None:
    script = Script().tool_call("f", f'{{"a": {_ESCAPED}, "a": 1}}')
    runs = await run(DefaultLimits(forbidden_words=["hunter2"]), script, wire_formats=["openai.chat"])
    runs.assert_blocked("default-limits")
