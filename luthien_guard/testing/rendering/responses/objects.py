"""What an answer is made of: the response, its items and their parts, as the provider spells them."""

from __future__ import annotations

from typing import Any

from luthien_guard.testing.rendering.parts import CREATED, finish_of, usage_of
from luthien_guard.testing.script import Script, Step, Usage, UseTool

__all__ = ["call_item", "envelope", "item_of", "part_of", "response_of"]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def part_of(channel: str, text: str) -> dict[str, Any]:
    if channel == "reasoning":
        return {"type": "summary_text", "text": text}
    if channel == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def item_of(channel: str, text: str, at: int, status: str) -> dict[str, Any]:
    if channel == "reasoning":
        return {"id": f"rs_scripted{at:04}", "type": "reasoning", "summary": [part_of(channel, text)]}
    return {
        "id": f"msg_scripted{at:04}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [part_of(channel, text)],
    }


def call_item(step: UseTool, at: int) -> dict[str, Any]:
    return {
        "id": f"fc_scripted{at:04}",
        "type": "function_call",
        "status": "completed",
        "arguments": step.arguments,
        "call_id": step.id,
        "name": step.name,
    }


def response_of(script: Script, steps: tuple[Step, ...], items: list[dict[str, Any]]) -> dict[str, Any]:
    reason = _INCOMPLETE.get(finish_of(steps))
    return {
        **envelope(script, "incomplete" if reason else "completed"),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": items,
        "usage": _usage(usage_of(steps)),
    }


def envelope(script: Script, status: str) -> dict[str, Any]:
    return {
        "id": "resp_scripted0001",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": script.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "metadata": {},
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input + usage.output,
    }
