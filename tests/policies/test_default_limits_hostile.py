"""What somebody tries who wants more than the limits allow."""

from __future__ import annotations

import json
from copy import deepcopy
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
    ("wire_format", "asked", "sent"),
    [
        (
            "anthropic.messages",
            {"max_tokens": 7, "fallbacks": [{"model": "b", "max_tokens": 100_000}, {"model": "c"}]},
            {"max_tokens": 7, "fallbacks": [{"model": "b", "max_tokens": 4096}, {"model": "c"}]},
        ),
        (
            "openai.chat",
            {"max_tokens": 7, "fallbacks": ["b", {"extra_body": {"max_completion_tokens": -1}}]},
            {"max_tokens": 7, "fallbacks": ["b", {"extra_body": {"max_completion_tokens": 4096}}]},
        ),
        (
            "openai.chat",
            {"max_tokens": 7, "model_list": [{"litellm_params": {"max_tokens": 5000}}]},
            {"max_tokens": 7, "model_list": [{"litellm_params": {"max_tokens": 4096}}]},
        ),
    ],
)
def test_for_every_model(wire_format: str, asked: dict[str, Any], sent: dict[str, Any]) -> None:
    came = deepcopy(asked)
    assert _clamped(asked, wire_format) == sent
    assert asked == came


_OF_SINGLE_PROVIDERS = [
    *("max_output_tokens", "max_new_tokens", "max_tokens_to_sample", "maxTokens", "num_predict"),
    *("max_length", "max_gen_len", "maxTokenCount", "maxOutputTokens", "maxCompletionTokens"),
]


@pytest.mark.parametrize("key", _OF_SINGLE_PROVIDERS)
def test_what_single_providers_call_it(key: str) -> None:
    """litellm hands it on, where it stands over the common name."""
    assert _clamped({key: 100_000}) == {key: 4096, "max_completion_tokens": 4096}
    assert _clamped({key: 5, "max_tokens": 6}) == {key: 5, "max_tokens": 6}


@pytest.mark.parametrize(
    ("around", "key"),
    [
        ("generationConfig", "maxOutputTokens"),
        ("generation_config", "max_output_tokens"),
        ("inferenceConfig", "maxTokens"),
        ("options", "num_predict"),
        ("parameters", "max_new_tokens"),
    ],
)
def test_among_the_settings_of_single_providers(around: str, key: str) -> None:
    """What an `extra_body` says is merged into what litellm has made of the request."""
    came: dict[str, Any] = {"max_tokens": 7, around: {key: 100_000, "temperature": 1}}
    assert _clamped(came) == {"max_tokens": 7, around: {key: 4096, "temperature": 1}}
    assert _clamped({"extra_body": came})["extra_body"] == {
        "max_tokens": 7,
        around: {key: 4096, "temperature": 1},
    }
    assert came[around][key] == 100_000
    assert _clamped({"max_tokens": 7, around: "x"}) == {"max_tokens": 7, around: "x"}


def test_a_word_in_the_instructions_of_a_summary() -> None:
    edits = [{"type": "compact_20260112", "instructions": "Keep the Verboten."}]
    raw = {"model": "m", "messages": [], "context_management": {"edits": edits}}
    policy = DefaultLimits(forbidden_words=["verboten"])
    assert isinstance(policy.on_request_started(ChatRequest("anthropic.messages", raw)), Block)


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
    ("İıµ", "xi\u0307I\u039c"),
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


_WORD = "\\u0068unter2"
_HIDDEN = {
    "a number that Python does not read": f'{{"n": {"1" * 5000}, "a": "{_WORD}"}}',
    "a line's end": f'{{"a": "{_WORD}\n"}}',
    "something behind it": f'{{"a": "{_WORD}"}} x',
    "no end": f'{{"a": "{_WORD}"',
    "a mark before it": f'\ufeff{{"a": "{_WORD}"}}',
    "depth": "[" * 100_000 + f'"{_WORD}"',
    "JSON in JSON": json.dumps({"a": f'{{"a": "{_WORD}"}}'}),
    "JSON in JSON in JSON": json.dumps({"a": json.dumps({"a": f'{{"a": "{_WORD}"}}'})}),
    "an escaped escape": '{"a": "\\u005cu0068unter2"}',
    "an escape that is none": '{"a": "\\hunter2"}',
    "a solidus, and half an escape": f'{{"a": "\\/\\u00", "b": "{_WORD}"}}',
    "a key": f'{{"{_WORD}": 1}}',
}


@pytest.mark.parametrize("arguments", _HIDDEN.values(), ids=_HIDDEN)
def test_nothing_that_json_dislikes_hides_what_escapes_mean(arguments: str) -> None:
    policy = DefaultLimits(forbidden_words=["hunter2"])
    raw = {"messages": [{"function_call": {"name": "f", "arguments": arguments}}]}
    assert isinstance(policy.on_request_started(ChatRequest("openai.chat", raw)), Block)
    raw = json.loads(json.dumps(raw).replace("unter2", "arbour"))
    assert policy.on_request_started(ChatRequest("openai.chat", raw)) is None


def test_two_escapes_may_make_one_character() -> None:
    policy = DefaultLimits(forbidden_words=["\U0001f3ff"])
    raw = {"input": [{"type": "function_call", "arguments": '"\\ud83c\\udfff"'}]}
    assert isinstance(policy.on_request_started(ChatRequest("openai.responses", raw)), Block)


def test_escapes_that_cannot_be_undone_in_time_are_blocked() -> None:
    policy = DefaultLimits(forbidden_words=["hunter2"])
    raw = {"input": [{"type": "custom_tool_call", "input": "\\" * 1_000_000}]}
    assert isinstance(policy.on_request_started(ChatRequest("openai.responses", raw)), Block)


@pytest.mark.anyio
@pytest.mark.parametrize("arguments", [_HIDDEN["a number that Python does not read"], _HIDDEN["no end"]])
async def test_nor_in_an_answer(arguments: str) -> None:
    runs = await run(
        DefaultLimits(forbidden_words=["hunter2"]), Script().tool_call("f", arguments), cuts="whole"
    )
    runs.assert_blocked("default-limits").no_leak("unter2")


def _parts(*texts: str, kind: str = "text") -> list[dict[str, Any]]:
    return [{"type": kind, "text": text} for text in texts]


_IN_PARTS = [
    ("openai.chat", {"messages": [{"role": "user", "content": _parts("say hun", "", "ter2")}]}),
    ("anthropic.messages", {"system": _parts("say hun", "ter2")}),
    ("anthropic.messages", {"messages": [{"content": [{"type": "tool_result", "content": _parts("hun", "ter2")}]}]}),
    ("openai.responses", {"input": [{"role": "user", "content": _parts("hun", "ter2", kind="input_text")}]}),
]  # fmt: skip


@pytest.mark.parametrize(("wire_format", "raw"), _IN_PARTS)
def test_a_word_in_two_parts_of_one_message_is_a_word(wire_format: str, raw: dict[str, Any]) -> None:
    policy = DefaultLimits(forbidden_words=["hunter2"])
    assert isinstance(policy.on_request_started(ChatRequest(wire_format, raw)), Block)


def test_what_stands_between_two_parts_keeps_them_apart() -> None:
    policy = DefaultLimits(forbidden_words=["hunter2"])
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    apart = [*_parts("hun"), image, *_parts("ter2")]
    raw = {"messages": [{"content": apart}, {"content": _parts("hun")}, {"content": _parts("ter2")}]}
    assert policy.on_request_started(ChatRequest("openai.chat", raw)) is None


def _used(given: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": given}]}]
    }


def _tool(**members: Any) -> dict[str, Any]:
    return {"tools": [{"name": "f", "description": "d", "input_schema": {"type": "object", **members}}]}


_ELSEWHERE = {
    "a key of an input": ("anthropic.messages", _used({"a": [{"HUNTER2": 1}]})),
    "a number of an input": ("anthropic.messages", _used({"card": 4111})),
    "an escape in an input": ("anthropic.messages", _used({"json": '{"a": "\\u0068unter2"}'})),
    "a role in an input": ("anthropic.messages", _used({"role": "hunter2", "type": "hunter2"})),
    "an environment": ("openai.responses", {"input": [{"type": "local_shell_call", "action": {"env": {"hunter2": "1"}}}]}),
    "a description": ("anthropic.messages", {"tools": [{"name": "f", "description": "say hunter2"}]}),
    "a property": ("anthropic.messages", _tool(properties={"hunter2": {"type": "string"}})),
    "a type": ("anthropic.messages", _tool(properties={"a": {"type": "hunter2"}})),
    "a value": ("anthropic.messages", _tool(properties={"a": {"enum": [1, {"hunter2": 4}]}})),
    "a nested tool": ("openai.responses", {"tools": [{"type": "namespace", "tools": [{"name": "hunter2"}]}]}),
    "a schema": ("openai.chat", {"response_format": {"json_schema": {"schema": {"properties": {"hunter2": {}}}}}}),
    "a key that is a sentence": ("openai.chat", {"messages": [{"say hunter2": 1}]}),
    "a role": ("openai.chat", {"messages": [{"role": "hunter2", "content": ""}]}),
    "a field of a server's own": ("openai.chat", {"documents": [{"title": "hunter2"}]}),
    "a template": ("openai.chat", {"chat_template": "hunter2"}),
}  # fmt: skip


@pytest.mark.parametrize(("wire_format", "raw"), _ELSEWHERE.values(), ids=_ELSEWHERE)
def test_whatever_the_model_reads_is_searched(wire_format: str, raw: dict[str, Any]) -> None:
    policy = DefaultLimits(forbidden_words=["hunter2", "4111"])
    assert isinstance(policy.on_request_started(ChatRequest(wire_format, raw)), Block)


def test_words_of_the_wire_format_are_nobodys() -> None:
    policy = DefaultLimits(forbidden_words=["ass", "script", "text", "string", "gpt", "auto", "jane"])
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": "b"},
    ]
    tool = {"name": "f", "description": "d", "parameters": {"properties": {"a": {"type": "string"}}}}
    raw = {
        "model": "gpt-5",
        "user": "jane",
        "tool_choice": "auto",
        "messages": messages,
        "metadata": {"who": "jane"},
    }
    tools = [{"type": "function", "function": tool}]
    assert policy.on_request_started(ChatRequest("openai.chat", {**raw, "tools": tools})) is None


@pytest.mark.anyio
async def test_keys_said_twice_hide_nothing_in_an_answer() -> None:
    script = Script().tool_call("f", f'{{"a": {_ESCAPED}, "a": 1}}')
    runs = await run(DefaultLimits(forbidden_words=["hunter2"]), script, wire_formats=["openai.chat"])
    runs.assert_blocked("default-limits")
