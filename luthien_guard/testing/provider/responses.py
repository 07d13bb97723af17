"""What openai.responses refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.testing.provider.chat import check_bearer
from luthien_guard.testing.provider.complaint import Complaint, check_keys, check_names, mapping, sequence

__all__ = ["check"]

_KEYS: Final = frozenset(
    """
    background client_metadata context_management conversation generate include input instructions
    max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id
    prompt prompt_cache_key prompt_cache_retention reasoning safety_identifier service_tier store stream
    stream_options temperature text tool_choice tools top_logprobs top_p truncation user
    """.split()  # noqa: SIM905 -- a name a line otherwise
)
_TOOL: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_PREFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "message": ("msg",),
    "function_call": ("fc",),
    "reasoning": ("rs",),
    "custom_tool_call": ("ctc",),
}
#: A call and what answers it.
_ANSWERED_BY: Final[Mapping[str, str]] = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "local_shell_call": "local_shell_call_output",
}
_NAMES: Final = {"function_call": "function call", "custom_tool_call": "custom tool call"}


def check(request: Mapping[str, Any], headers: Mapping[str, str], open_calls: Sequence[str] | None) -> None:
    """Raises Complaint for a request that the real API answers with a 4xx. `open_calls`: the calls of the previous
    response that wait for an answer; None when the provider knows no such response."""
    check_bearer(headers)
    check_keys(request, _KEYS, "Unknown parameter: '{}'.")
    if not isinstance(request.get("model"), str) and not request.get("prompt"):
        raise Complaint(
            "Missing required parameter: 'model'.", code="missing_required_parameter", param="model"
        )
    previous = request.get("previous_response_id")
    if previous is not None and open_calls is None:
        message = f"Previous response with id '{previous}' not found."
        raise Complaint(message, code="previous_response_not_found", param="previous_response_id")
    if previous is not None and request.get("conversation") is not None:
        raise Complaint("Only one of 'previous_response_id' and 'conversation' may be given.")
    _check_tools(request)
    _check_input(request, list(open_calls or ()))


def _check_tools(request: Mapping[str, Any]) -> None:
    tools = [mapping(tool, "tools") for tool in sequence(request.get("tools") or [], "tools")]
    for at, tool in enumerate(tools):
        if not isinstance(tool.get("type"), str):
            raise Complaint(f"Missing required parameter: 'tools[{at}].type'.", param=f"tools[{at}].type")
        # Nested under `function`, as openai.chat has it.
        if tool["type"] == "function" and "name" not in tool:
            raise Complaint(f"Missing required parameter: 'tools[{at}].name'.", param=f"tools[{at}].name")
    check_names((tool.get("name") for tool in tools if tool["type"] in ("function", "custom")), _TOOL)


def _check_input(request: Mapping[str, Any], waiting: list[str]) -> None:
    given = request.get("input")
    if given is None and (
        request.get("prompt") or request.get("previous_response_id") or request.get("conversation")
    ):
        return
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": given}]
    items = sequence(given, "input")
    referred = any(isinstance(item, dict) and item.get("type") == "item_reference" for item in items)
    stored = referred or bool(request.get("previous_response_id") or request.get("conversation"))
    asked = dict.fromkeys(waiting, "function_call")
    for at, item in enumerate(items):
        kind = _kind(at, mapping(item, f"input[{at}]"))
        _check_id(at, kind, item)
        if kind in _ANSWERED_BY:
            asked[_call_id(at, item)] = kind
        elif kind in _ANSWERED_BY.values():
            _take_output(at, kind, item, asked, stored)
        elif kind == "reasoning" and at + 1 == len(items):
            raise Complaint(
                f"Item '{item.get('id')}' of type 'reasoning' was provided without its required following item."
            )
    answered = {item.get("call_id") for item in items if item.get("type") in _ANSWERED_BY.values()}
    for id, kind in asked.items():
        if id not in answered:
            raise Complaint(
                f"No tool output found for {_NAMES.get(kind, 'function call')} {id}.", param="input"
            )


def _kind(at: int, item: Mapping[str, Any]) -> str:
    kind = item.get("type", "message")
    if not isinstance(kind, str):
        raise Complaint(f"Invalid type for 'input[{at}].type'.", param=f"input[{at}].type")
    if kind == "message" and item.get("role") not in ("user", "assistant", "system", "developer"):
        message = f"Invalid value: '{item.get('role')}'. Supported values are: 'assistant', 'system', 'developer', and 'user'."
        raise Complaint(message, code="invalid_value", param=f"input[{at}]")
    if kind == "message" and not isinstance(item.get("content"), (str, list)):
        raise Complaint(f"Missing required parameter: 'input[{at}].content'.", param=f"input[{at}].content")
    return kind


def _check_id(at: int, kind: str, item: Mapping[str, Any]) -> None:
    id, prefixes = item.get("id"), _PREFIXES.get(kind)
    if id is None or prefixes is None or item.get("role") not in (None, "assistant"):
        return
    if not isinstance(id, str) or not id.startswith(prefixes) or len(id) > 512:
        message = f"Invalid 'input[{at}].id': '{id}'. Expected an ID that begins with '{prefixes[0]}'."
        raise Complaint(message, code="invalid_value", param=f"input[{at}].id")


def _call_id(at: int, item: Mapping[str, Any]) -> str:
    id = item.get("call_id")
    if not isinstance(id, str) or not id:
        raise Complaint(f"Missing required parameter: 'input[{at}].call_id'.", param=f"input[{at}].call_id")
    if item.get("type") == "function_call" and not isinstance(item.get("arguments"), str):
        raise Complaint(
            f"Missing required parameter: 'input[{at}].arguments'.", param=f"input[{at}].arguments"
        )
    return id


def _take_output(at: int, kind: str, item: Mapping[str, Any], asked: Mapping[str, str], stored: bool) -> None:
    id = _call_id(at, item)
    if "output" not in item:
        raise Complaint(f"Missing required parameter: 'input[{at}].output'.", param=f"input[{at}].output")
    if id not in asked and not (stored and not asked):
        name = kind.removesuffix("_output").replace("_", " ")
        raise Complaint(f"No tool call found for {name} output with call_id {id}.", param="input")
