"""What becomes of numbers and names."""

from __future__ import annotations

from typing import Any

import pytest

from luthien_guard.sinks.opentelemetry import semconv, values

STABLE = semconv.CONVENTIONS["stable"]
INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
READ, WRITTEN = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"
REASONING = "gen_ai.usage.reasoning.output_tokens"


@pytest.mark.parametrize(
    ("wire_format", "usage", "expected"),
    [
        (
            "openai.chat",
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            {INPUT: 10, OUTPUT: 5, READ: 4, REASONING: 2},
        ),
        (
            "openai.responses",
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            {INPUT: 10, OUTPUT: 5, READ: 4, REASONING: 2},
        ),
        (
            "anthropic.messages",
            {
                "input_tokens": 3,
                "output_tokens": 5,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 2,
            },
            {INPUT: 9, OUTPUT: 5, READ: 4, WRITTEN: 2},
        ),
        ("openai.chat", {"prompt_tokens": "10", "completion_tokens": True}, {}),
        ("openai.chat", {"prompt_tokens": -1, "completion_tokens": 2**60, "prompt_tokens_details": []}, {}),
        ("openai.chat", None, {}),
        ("openai.chat", [1], {}),
    ],
)
def test_usage_of_every_wire_format(wire_format: str, usage: Any, expected: dict[str, int]) -> None:
    assert values.usage_of(usage, wire_format, STABLE) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("KeyError: 'secret'", "KeyError"),
        ("my.module.Broken", "my.module.Broken"),
        ("it was the secret", "_OTHER"),
        ("secret words: here", "_OTHER"),
        ("", "_OTHER"),
        (None, "_OTHER"),
    ],
)
def test_an_error_is_told_by_its_type(text: Any, name: str) -> None:
    assert values.error_name(text) == name


@pytest.mark.parametrize("name", ["gpt-4.1", "claude-3@20240229", "org/model:free", "a" * 128])
def test_a_name_is_a_name(name: str) -> None:
    assert values.label(name) == values.name_of(name) == name


@pytest.mark.parametrize("name", ["two words", "a" * 129, "new\nline", "gpt-4\n", "naïve", "[redacted]"])
def test_anything_else_is_not(name: str) -> None:
    assert values.label(name) is None
    assert values.name_of(name) == "_OTHER"


def test_what_is_no_object_or_too_long_has_no_parameters() -> None:
    for body in (None, 1, "", "[1]", "{", '{"a": NaN}', '{"temperature": 1}' + " " * 65_536):
        assert values.parameters(values.parsed(body)) == {}
    assert values.parameters(values.parsed('{"temperature": 1, "n": 1, "seed": 1e400}')) == {
        "gen_ai.request.temperature": 1
    }
