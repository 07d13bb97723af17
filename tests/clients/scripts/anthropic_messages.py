"""anthropic (Python)."""

from __future__ import annotations

from typing import Any

import anthropic
from plan import PLAN, Turn, model, play

client = anthropic.Anthropic(base_url=PLAN["url"], api_key="any", max_retries=0)
#: What the guard itself makes is checked against the SDK's types to the letter. Recorded traffic is older than they are.
exact = anthropic.Anthropic(
    base_url=PLAN["url"], api_key="any", max_retries=0, _strict_response_validation=True
)
TOOLS: list[Any] = [
    {"name": name, "description": name, "input_schema": PLAN["schema"]} for name in PLAN["tools"]
]


def ask(history: list[Any], stream: bool, headers: dict[str, str], tools: bool) -> Turn:
    given: Any = {"model": model(headers), "max_tokens": 1000, "messages": history, "extra_headers": headers}
    if tools:
        given["tools"] = TOOLS
    message, shown = (_streamed if stream else _whole)(client if headers else exact, given)
    calls = [(each.id, each.name, each.input) for each in message.content if each.type == "tool_use"]
    # as an application does it that keeps what the SDK gave it
    blocks = [each.to_dict() for each in message.content]
    return Turn(_text(message), shown, calls, [{"role": "assistant", "content": blocks}])


def _whole(sdk: Any, given: Any) -> tuple[Any, str]:
    message = sdk.messages.create(**given)
    return message, _text(message)


def _streamed(sdk: Any, given: Any) -> tuple[Any, str]:
    with sdk.messages.stream(**given) as events:
        shown = "".join(events.text_stream)
        return events.get_final_message(), shown


def _text(message: Any) -> str:
    return "".join(each.text for each in message.content if each.type == "text")


def results(calls: list[tuple[str, str, Any]]) -> list[Any]:
    blocks = [{"type": "tool_result", "tool_use_id": id, "content": "done"} for id, _, _ in calls]
    return [{"role": "user", "content": blocks}]


play(ask, results)
