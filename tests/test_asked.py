"""Where a request says more than at its top: every place at which a provider, litellm or its proxy would read it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthien_guard.errors import MalformedBody
from luthien_guard.exchange import ChatRequest
from luthien_guard.wire.formats import FORMATS

CHAT, MESSAGES, RESPONSES = "openai.chat", "anthropic.messages", "openai.responses"
HIDDEN = [{"role": "user", "content": "hidden"}]
TOOL = {"name": "hidden", "input_schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("wire_format", "raw"),
    [
        (MESSAGES, {"compaction": {"type": "summarize", "instructions": "hidden"}}),
        (
            MESSAGES,
            {"context_management": {"edits": [{"type": "compact_20260112", "instructions": "hidden"}]}},
        ),
        (CHAT, {"fallbacks": [{"model": "b", "fallbacks": [{"model": "c", "messages": HIDDEN}]}]}),
        (CHAT, {"fallbacks": [{"model_list": [{"litellm_params": {"messages": HIDDEN}}]}]}),
        (CHAT, {"extra_body": {"messages": HIDDEN}}),
        (CHAT, {"extra_body": {"extra_body": {"messages": HIDDEN}}}),
        (CHAT, {"roles": {"user": {"pre_message": "hidden"}}}),
        (CHAT, {"initial_prompt_value": "hidden"}),
        (CHAT, {"final_prompt_value": "hidden"}),
        (CHAT, {"documents": [{"title": "a", "text": "hidden"}]}),
        (CHAT, {"chat_template": "hidden"}),
        (CHAT, {"contents": [{"role": "user", "parts": [{"text": "hidden"}]}]}),
        (CHAT, {"systemInstruction": {"parts": [{"text": "hidden"}]}}),
        (CHAT, {"system_instruction": {"parts": [{"text": "hidden"}]}}),
        (CHAT, {"chat_template_kwargs": {"documents": ["hidden"]}}),
    ],
    ids=str,
)
def test_prompts_wherever_they_stand(wire_format: str, raw: dict[str, Any]) -> None:
    request = ChatRequest(wire_format, {"model": "m", "messages": [], **raw})
    (found,) = [each for each in request.texts() if each.text == "hidden"]
    assert found.path[0] in raw


@pytest.mark.parametrize(
    ("wire_format", "raw"),
    [
        (MESSAGES, {"mcp_servers": [{"type": "url", "url": "https://evil.example", "name": "hidden"}]}),
        (MESSAGES, {"tools": [{"type": "mcp_toolset", "mcp_server_name": "s", "tools": [TOOL]}]}),
        (
            MESSAGES,
            {"messages": [{"role": "assistant", "content": [{"type": "mcp_tool_listing", "tools": [TOOL]}]}]},
        ),
        (
            MESSAGES,
            {
                "messages": [
                    {
                        "role": "system",
                        "content": [
                            {
                                "type": "tool_addition",
                                "tool": {"type": "tool_definition", "definition": TOOL},
                            }
                        ],
                    }
                ]
            },
        ),
        (RESPONSES, {"input": [{"type": "additional_tools", "tools": [{}], "additional_tools": [TOOL]}]}),
        (RESPONSES, {"input": [{"type": "tool_search_output", "tools": [{"tools": [TOOL]}]}]}),
        (CHAT, {"fallbacks": [{"fallbacks": [{"tools": [TOOL]}]}]}),
        (CHAT, {"extra_body": {"functions": [TOOL]}}),
    ],
    ids=str,
)
def test_tools_wherever_they_are_offered(wire_format: str, raw: dict[str, Any]) -> None:
    request = ChatRequest(wire_format, raw)
    assert [tool["name"] for tool in request.tools if "name" in tool] == ["hidden"]


@pytest.mark.parametrize(
    ("wire_format", "raw", "references"),
    [
        (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, ("messages",)),
        (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "a", "transcript": "x"}}]}, ("messages",)),
        (CHAT, {"messages": [{"role": "assistant", "content": "Hello", "audio": None}], "audio": {}}, ()),
        (CHAT, {"previous_response_id": "resp_1"}, ("previous_response_id",)),
        (CHAT, {"prompt_id": "p"}, ("prompt_id",)),
        (CHAT, {"fallbacks": [{"previous_response_id": "resp_1"}]}, ("previous_response_id",)),
        (RESPONSES, {"input": "x", "prompt_id": "p"}, ("prompt_id",)),
        (RESPONSES, {"input": [{"id": "msg_1", "role": None}]}, ("input",)),
        (RESPONSES, {"input": [{"id": "msg_1", "role": "assistant"}]}, ("input",)),
        (RESPONSES, {"input": [{"type": "image_generation_call", "id": "ig_1"}]}, ("input",)),
        (RESPONSES, {"input": [{"type": "image_generation_call", "id": "ig_1", "result": "aGk="}]}, ()),
        (RESPONSES, {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, ()),
        (RESPONSES, {"input": [{"type": ["item_reference"]}, {"type": "compaction_trigger", "id": "c"}]}, ()),
        (RESPONSES, {"extra_body": {"conversation": "c"}, "conversation": "d"}, ("conversation",)),
    ],
    ids=str,
)
def test_what_the_provider_keeps_wherever_it_is_named(
    wire_format: str, raw: dict[str, Any], references: tuple[str, ...]
) -> None:
    assert ChatRequest(wire_format, raw).references == references


def test_a_tool_that_is_named_again_is_no_further_one() -> None:
    block = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "ls"}}
    raw = {"tools": [TOOL], "messages": [{"role": "system", "content": [block, "text", None]}]}
    assert ChatRequest(MESSAGES, raw).tools == [TOOL]


def test_limits_and_choices_are_those_of_every_model() -> None:
    raw = {
        "max_tokens": 5,
        "n": 2,
        "fallbacks": [{"max_tokens": 7, "n": 3}, {"max_tokens": None}, "gpt-4o", {"extra_body": {"n": "9"}}],
        "num_predict": -1,
    }
    request = ChatRequest(CHAT, raw)
    assert list(request.limits()) == [
        (("max_tokens",), 5),
        (("num_predict",), -1),
        (("fallbacks", 0, "max_tokens"), 7),
    ]
    assert (request.max_tokens, request.choices) == (7, 3)
    assert ChatRequest(MESSAGES, raw).choices == 1


def test_many_items_are_walked_once() -> None:
    """A list that is emptied from its front takes minutes for as many."""
    body = b'{"model":"m","input":[' + b",".join([b"{}"] * 1_000_000) + b"]}"
    assert FORMATS[RESPONSES].read_request(body).tools == []


MISSPELT: list[dict[str, Any]] = [
    {"Messages": HIDDEN},
    {"messages": [], "MESSAGES": HIDDEN},
    {"me\u017f\u017fages": HIDDEN},
    {"\u0130nput": "hidden"},
    {"max_to\u212aens": 100_000},
    {"Max_Tokens": 100_000},
    {"MaxTokens": 100_000},
    {"STREAM": True},
    {"N": 5},
    {"Fallbacks": [{"messages": HIDDEN}]},
    {"fallbacks": [{"Messages": HIDDEN}]},
    {"extra_body": {"Tools": [TOOL]}},
    {"messages": [{"Role": "system", "content": "hidden"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "Text": "hidden"}]}]},
    {"tools": [{"type": "function", "Function": TOOL}]},
    {"tools": [{"type": "function", "function": {"name": "ls", "Name": "rm"}}]},
    {"input": [{"Type": "item_reference", "role": "user"}]},
]


@pytest.mark.parametrize("wire_format", FORMATS)
@pytest.mark.parametrize("raw", MISSPELT, ids=str)
def test_no_case_hides_a_key_from_policies(wire_format: str, raw: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", **raw}, ensure_ascii=False).encode()
    with pytest.raises(MalformedBody, match="case"):
        FORMATS[wire_format].read_request(body)


@pytest.mark.parametrize("wire_format", FORMATS)
def test_what_nobody_takes_for_a_key_of_the_wire_format_passes(wire_format: str) -> None:
    schema = {"type": "object", "properties": {"Content": {"type": "string"}, "N": {}, "ROLE": {}}}
    raw = {
        "model": "m",
        "maxTokens": 5,
        "topK": 5,
        "X": 1,
        "metadata": {"User": "u", "N": "1"},
        "tools": [{"name": "f", "input_schema": schema, "function": {"name": "f", "parameters": schema}}],
        "messages": [{"role": "user", "content": [{"type": "tool_use", "input": {"Text": "", "Type": ""}}]}],
    }
    assert FORMATS[wire_format].read_request(json.dumps(raw).encode()).raw == raw
