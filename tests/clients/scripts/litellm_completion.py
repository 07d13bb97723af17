"""litellm, asking the gateway as it asks OpenAI or Anthropic."""

from __future__ import annotations

import json
from typing import Any

import litellm
from plan import PLAN, Turn, model, play

ANTHROPIC = PLAN["wire_format"] == "anthropic.messages"
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": PLAN["schema"]}}
    for name in PLAN["tools"]
]


def ask(history: list[Any], stream: bool, headers: dict[str, str], tools: bool) -> Turn:
    given: Any = {
        "model": f"{'anthropic' if ANTHROPIC else 'openai'}/{model(headers)}",
        "base_url": PLAN["url"] if ANTHROPIC else PLAN["url"] + "/v1",
        "api_key": "any",
        "messages": history,
        "extra_headers": headers,
        "num_retries": 0,
        "stream": stream,
    }
    if tools:
        given["tools"] = TOOLS
    answer: Any = litellm.completion(**given)
    shown = ""
    if stream:
        chunks = list(answer)
        shown = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
        answer = litellm.stream_chunk_builder(chunks)
    message = answer.choices[0].message
    said = message.content or ""
    calls = [
        (each.id, each.function.name, json.loads(each.function.arguments))
        for each in message.tool_calls or ()
    ]
    return Turn(said, shown if stream else said, calls, [message.model_dump(exclude_none=True)])


def results(calls: list[tuple[str, str, Any]]) -> list[Any]:
    return [{"role": "tool", "tool_call_id": id, "content": "done"} for id, _, _ in calls]


play(ask, results)
