"""openai (Python), Responses."""

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
    {"type": "function", "name": name, "description": name, "parameters": PLAN["schema"], "strict": False}
    for name in PLAN["tools"]
]


def ask(history: list[Any], stream: bool, headers: dict[str, str], tools: bool) -> Turn:
    given: Any = {"model": model(headers), "input": history, "extra_headers": headers}
    if tools:
        given["tools"] = TOOLS
    response, shown = (_streamed if stream else _whole)(client if headers else exact, given)
    calls = [
        (each.call_id, each.name, json.loads(each.arguments))
        for each in response.output
        if each.type == "function_call"
    ]
    items = [each.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for each in response.output]
    return Turn(response.output_text, shown, calls, items)


def _whole(sdk: Any, given: Any) -> tuple[Any, str]:
    response = sdk.responses.create(**given)
    return response, response.output_text


def _streamed(sdk: Any, given: Any) -> tuple[Any, str]:
    with sdk.responses.stream(**given) as events:
        shown = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        return events.get_final_response(), shown


def results(calls: list[tuple[str, str, Any]]) -> list[Any]:
    return [{"type": "function_call_output", "call_id": id, "output": "done"} for id, _, _ in calls]


play(ask, results)
