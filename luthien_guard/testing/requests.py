"""Requests as an application would send them."""

from __future__ import annotations

from typing import Any

__all__ = ["request_for"]

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
