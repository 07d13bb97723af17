"""Requests as an application would send them."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["conversation_for", "request_for"]

_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"command": {"type": "string"}},
    "required": ["command"],
    "additionalProperties": False,
}
_ABOUT = "Run a command in the shell."


def request_for(
    wire_format: str, prompt: str, *, stream: bool, model: str = "scripted-model", choices: int = 1
) -> dict[str, Any]:
    """A plain request with one prompt and one tool, `bash`. Raises KeyError for an unknown wire format. `choices`: how many
    answers it asks for, in openai.chat."""
    body = {"model": model, **_MADE[wire_format](prompt), "stream": stream}
    if stream and wire_format == "openai.chat":
        body["stream_options"] = {"include_usage": True}
    if choices > 1:
        body["n"] = choices
    return body


def _chat(prompt: str) -> dict[str, Any]:
    function = {"name": "bash", "description": _ABOUT, "parameters": _PARAMETERS}
    return {
        "messages": [{"role": "user", "content": prompt}],
        "tools": [{"type": "function", "function": function}],
        "max_completion_tokens": 1024,
    }


def _messages(prompt: str) -> dict[str, Any]:
    return {
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": prompt}],
        "tools": [{"name": "bash", "description": _ABOUT, "input_schema": _PARAMETERS}],
    }


def _responses(prompt: str) -> dict[str, Any]:
    return {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": prompt}]}],
        "tools": [{"type": "function", "name": "bash", "description": _ABOUT, "parameters": _PARAMETERS}],
        "max_output_tokens": 1024,
    }


_MADE = {"openai.chat": _chat, "anthropic.messages": _messages, "openai.responses": _responses}


def conversation_for(
    wire_format: str,
    *,
    system: str = "Be brief.",
    user: str = "What is here?",
    argument: str = "ls",
    result: str = "a.txt",
    about: str = _ABOUT,
) -> dict[str, Any]:
    """What a request says in the middle of a conversation: a system prompt, the user's words in parts, a call of a tool, which
    has no words beside it, its result, and the tool. Raises KeyError for an unknown wire format."""
    return _CONVERSATIONS[wire_format](system, user, {"command": argument}, result, about)


def _chat_conversation(system: str, user: str, called: Any, result: str, about: str) -> dict[str, Any]:
    function = {"name": "bash", "arguments": json.dumps(called)}
    call = {"id": "call_earlier", "type": "function", "function": function}
    tool = {"name": "bash", "description": about, "parameters": _PARAMETERS}
    return {
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": [{"type": "text", "text": user}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_earlier", "content": result},
        ],
        "tools": [{"type": "function", "function": tool}],
    }


def _messages_conversation(system: str, user: str, called: Any, result: str, about: str) -> dict[str, Any]:
    call = {"type": "tool_use", "id": "call_earlier", "name": "bash", "input": called}
    answer = [{"type": "text", "text": result}]
    return {
        "system": [{"type": "text", "text": system}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": user}]},
            {"role": "assistant", "content": [call]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "call_earlier", "content": answer}],
            },
        ],
        "tools": [{"name": "bash", "description": about, "input_schema": _PARAMETERS}],
    }


def _responses_conversation(system: str, user: str, called: Any, result: str, about: str) -> dict[str, Any]:
    return {
        "instructions": system,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": user}]},
            {
                "type": "function_call",
                "call_id": "call_earlier",
                "name": "bash",
                "arguments": json.dumps(called),
            },
            {"type": "function_call_output", "call_id": "call_earlier", "output": result},
        ],
        "tools": [{"type": "function", "name": "bash", "description": about, "parameters": _PARAMETERS}],
    }


_CONVERSATIONS = {
    "openai.chat": _chat_conversation,
    "anthropic.messages": _messages_conversation,
    "openai.responses": _responses_conversation,
}
