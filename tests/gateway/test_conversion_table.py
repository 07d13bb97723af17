"""`docs/conversion.md`: for each client format and upstream format, what arrives. Written by this test when
`LUTHIEN_WRITE_DOCS` is set, compared by it otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.testing import Script
from luthien_guard.testing.provider import FakeProvider, serving
from tests.gateway.harness import FORMATS, Gateway, gateway

PAGE = Path(__file__).parents[2] / "docs" / "conversion.md"
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
SHAPE = {
    "type": "object",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
    "additionalProperties": False,
}

#: One field, or one thing a message may hold, at a time. Values are told apart by what they say.
CHAT: Mapping[str, dict[str, Any]] = {
    "frequency_penalty": {"frequency_penalty": 0.31},
    "logit_bias": {"logit_bias": {"4711": 3}},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "max_completion_tokens": {"max_completion_tokens": 613},
    "max_tokens": {"max_tokens": 614},
    "metadata": {"metadata": {"team": "blue-team"}},
    "n": {"n": 2},
    "parallel_tool_calls": {"parallel_tool_calls": False},
    "presence_penalty": {"presence_penalty": 0.32},
    "prediction": {"prediction": {"type": "content", "content": "the predicted text"}},
    "reasoning_effort": {"reasoning_effort": "high"},
    "response_format": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "shape_name", "schema": SHAPE, "strict": True},
        }
    },
    "safety_identifier": {"safety_identifier": "somebody-safe"},
    "seed": {"seed": 61},
    "service_tier": {"service_tier": "flex"},
    "stop": {"stop": ["the-stop-word"]},
    "store": {"store": True},
    "temperature": {"temperature": 0.61},
    "tool_choice": {"tool_choice": "required"},
    "top_p": {"top_p": 0.62},
    "user": {"user": "somebody-user"},
    "verbosity": {"verbosity": "low"},
    "system message": {
        "messages": [{"role": "system", "content": "be the system"}, {"role": "user", "content": "question"}]
    },
    "image": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}],
            }
        ]
    },
    "name of a speaker": {"messages": [{"role": "user", "content": "question", "name": "speaker-ann"}]},
    "calls and results": {
        "messages": [
            {"role": "user", "content": "question"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_71",
                        "type": "function",
                        "function": {"name": "bash", "arguments": '{"command": "list-it"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_71", "content": "the tool's result"},
        ]
    },
}
MESSAGES: Mapping[str, dict[str, Any]] = {
    "metadata": {"metadata": {"user_id": "somebody-user"}},
    "service_tier": {"service_tier": "standard_only"},
    "stop_sequences": {"stop_sequences": ["the-stop-word"]},
    "system": {"system": "be the system"},
    "temperature": {"temperature": 0.61},
    "thinking": {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2048}},
    "tool_choice": {"tool_choice": {"type": "any"}},
    "top_k": {"top_k": 63},
    "top_p": {"top_p": 0.62},
    "cache_control": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "question", "cache_control": {"type": "ephemeral"}}],
            }
        ]
    },
    "image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PICTURE},
                    }
                ],
            }
        ]
    },
    "calls and results": {
        "messages": [
            {"role": "user", "content": "question"},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "toolu_71", "name": "bash", "input": {"command": "list-it"}}
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_71", "content": "the tool's result"}
                ],
            },
        ]
    },
    "is_error of a result": {
        "messages": [
            {"role": "user", "content": "question"},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "toolu_71", "name": "bash", "input": {"command": "list-it"}}
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_71",
                        "content": "the tool's result",
                        "is_error": True,
                    }
                ],
            },
        ]
    },
}
RESPONSES: Mapping[str, dict[str, Any]] = {
    "include": {"include": ["reasoning.encrypted_content"]},
    "instructions": {"instructions": "be the system"},
    "max_output_tokens": {"max_output_tokens": 613},
    "metadata": {"metadata": {"team": "blue-team"}},
    "parallel_tool_calls": {"parallel_tool_calls": False},
    "prompt_cache_key": {"prompt_cache_key": "the-cache-key"},
    "reasoning": {"reasoning": {"effort": "high"}},
    "safety_identifier": {"safety_identifier": "somebody-safe"},
    "service_tier": {"service_tier": "flex"},
    "store": {"store": False},
    "temperature": {"temperature": 0.61},
    "text.format": {
        "text": {"format": {"type": "json_schema", "name": "shape_name", "schema": SHAPE, "strict": True}}
    },
    "tool_choice": {"tool_choice": "required"},
    "top_p": {"top_p": 0.62},
    "truncation": {"truncation": "auto"},
    "user": {"user": "somebody-user"},
    "image": {
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"}],
            }
        ]
    },
    "calls and results": {
        "input": [
            {"role": "user", "content": "question"},
            {
                "type": "function_call",
                "call_id": "call_71",
                "name": "bash",
                "arguments": '{"command": "list-it"}',
            },
            {"type": "function_call_output", "call_id": "call_71", "output": "the tool's result"},
        ]
    },
}
FIELDS = {"openai.chat": CHAT, "anthropic.messages": MESSAGES, "openai.responses": RESPONSES}
TOOLS: dict[str, Any] = {
    "openai.chat": [
        {"type": "function", "function": {"name": "bash", "description": "runs it", "parameters": SCHEMA}}
    ],
    "anthropic.messages": [{"name": "bash", "description": "runs it", "input_schema": SCHEMA}],
    "openai.responses": [
        {"type": "function", "name": "bash", "description": "runs it", "parameters": SCHEMA}
    ],
}
#: Upstreams as litellm is told of them. `groq` stands for the many that speak openai.chat.
TARGETS = {"anthropic.messages": "anthropic/claude-sonnet-4-5", "openai.chat": "groq/llama-3.3-70b-versatile"}


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[Gateway, FakeProvider]]:
    provider = FakeProvider(Script().text("Fine."))
    with serving(provider) as url:
        upstreams = [
            UpstreamSettings(
                match=name,
                litellm={},
                model=model,
                api_key="k",
                base_url=url + ("/v1" if name == "openai.chat" else ""),
            )
            for name, model in TARGETS.items()
        ]
        with gateway(upstreams) as gate:
            yield gate, provider


def arrives(gate: Gateway, wire_format: str, target: str, fields: dict[str, Any]) -> str:
    if wire_format == target:
        return "yes"  # bytes go through: asked natively
    answer = gate.model(wire_format, model=target, stream=False, **{"tools": TOOLS[wire_format], **fields})
    if answer.status != 200:
        return f"refused ({answer.status})"
    lost = answer.headers.get("x-luthien-dropped", "")
    return f"no: `{lost}`" if lost else "yes"


def page(gate: Gateway) -> str:
    lines = [
        "# What arrives across wire formats",
        "",
        (
            "Made by `tests/gateway/test_conversion_table.py`: each field is sent alone, through the `litellm` upstream "
            f"(litellm {version('litellm')}), and looked for in what really left. What is lost is named in the response "
            "header `x-luthien-dropped` and in the record. An upstream that speaks the client's own format gets the bytes "
            "as they are: everything arrives."
        ),
    ]
    for wire_format in FORMATS:
        targets = [each for each in TARGETS if each != wire_format]
        lines += [
            "",
            f"## A client of {wire_format}",
            "",
            f"| field | {' | '.join(f'to {each}' for each in targets)} |",
        ]
        lines.append(f"|---|{'---|' * len(targets)}")
        for name, fields in FIELDS[wire_format].items():
            cells = [arrives(gate, wire_format, target, fields) for target in targets]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_the_page_says_what_arrives(asked: tuple[Gateway, FakeProvider]) -> None:
    found = page(asked[0])
    if os.environ.get("LUTHIEN_WRITE_DOCS"):
        PAGE.write_text(found)
    if version("litellm") in PAGE.read_text():
        assert PAGE.read_text() == found
    else:
        pytest.skip("the page was made with another litellm: set LUTHIEN_WRITE_DOCS")
