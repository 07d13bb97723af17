"""langchain-openai, on Chat Completions."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from plan import PLAN, USER, Turn, play
from plan import model as name

TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": PLAN["schema"]}}
    for name in PLAN["tools"]
]


def ask(history: list[Any], stream: bool, headers: dict[str, str], tools: bool) -> Turn:
    model: Any = ChatOpenAI(
        model=name(headers), base_url=PLAN["url"] + "/v1", api_key="any", max_retries=0, default_headers=headers,
        use_responses_api=PLAN["wire_format"] == "openai.responses",
    )  # fmt: skip
    if tools:
        model = model.bind_tools(TOOLS)
    messages = [HumanMessage(each["content"]) if each == USER else each for each in history]
    message, shown = _streamed(model, messages) if stream else _whole(model, messages)
    calls = [(each["id"], each["name"], each["args"]) for each in message.tool_calls]
    assert not message.invalid_tool_calls
    return Turn(message.text, shown, calls, [message])


def _whole(model: Any, messages: list[Any]) -> tuple[Any, str]:
    message = model.invoke(messages)
    return message, message.text


def _streamed(model: Any, messages: list[Any]) -> tuple[Any, str]:
    whole, shown = None, ""
    for chunk in model.stream(messages):
        whole = chunk if whole is None else whole + chunk
        shown += chunk.text
    return whole, shown


def results(calls: list[tuple[str, str, Any]]) -> list[Any]:
    return [ToolMessage("done", tool_call_id=id) for id, _, _ in calls]


play(ask, results)
