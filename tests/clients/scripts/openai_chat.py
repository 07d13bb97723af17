"""openai (Python), Chat Completions."""

from __future__ import annotations

import json
from typing import Any

import openai
from plan import PLAN, Turn, model, play

client = openai.OpenAI(base_url=PLAN["url"] + "/v1", api_key="any", max_retries=0)
#: What the guard itself makes is checked against the SDK's types to the letter. Recorded traffic is older than they are.
exact = openai.OpenAI(
    base_url=PLAN["url"] + "/v1", api_key="any", max_retries=0, _strict_response_validation=True
)
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": PLAN["schema"]}}
    for name in PLAN["tools"]
]


def ask(history: list[Any], stream: bool, headers: dict[str, str], tools: bool) -> Turn:
    given: Any = {"model": model(headers), "messages": history, "extra_headers": headers}
    if tools:
        given["tools"] = TOOLS
    message, shown = (_streamed if stream else _whole)(client if headers else exact, given)
    said = message.content or ""
    calls = [
        (call.id, call.function.name, json.loads(call.function.arguments))
        for call in message.tool_calls or ()
    ]
    asked = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments},
        }
        for call in message.tool_calls or ()
    ]
    return Turn(said, shown, calls, [{"role": "assistant", "content": message.content, "tool_calls": asked}])


def _whole(sdk: Any, given: Any) -> tuple[Any, str]:
    message = sdk.chat.completions.create(**given).choices[0].message
    return message, message.content or ""


def _streamed(sdk: Any, given: Any) -> tuple[Any, str]:
    with sdk.chat.completions.stream(**given) as events:
        shown = "".join(event.delta for event in events if event.type == "content.delta")
        return events.get_final_completion().choices[0].message, shown


def results(calls: list[tuple[str, str, Any]]) -> list[Any]:
    return [{"role": "tool", "tool_call_id": id, "content": "done"} for id, _, _ in calls]


play(ask, results)
