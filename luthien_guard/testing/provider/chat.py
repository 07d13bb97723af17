"""What openai.chat refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from luthien_guard.testing.provider.complaint import Complaint, check_keys, check_names, mapping, sequence

__all__ = ["check", "check_bearer"]

_KEYS: Final = frozenset(
    """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
    messages metadata modalities model moderation n parallel_tool_calls prediction presence_penalty
    prompt_cache_key prompt_cache_retention reasoning_effort response_format safety_identifier seed
    service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user
    verbosity web_search_options
    """.split()  # noqa: SIM905 -- a name a line otherwise
)
_TOOL: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ROLES: Final = ("developer", "system", "user", "assistant", "tool", "function")


def check_bearer(headers: Mapping[str, str]) -> None:
    """OpenAI's credential."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not key:
        raise Complaint(
            "You didn't provide an API key. You need to provide your API key in an Authorization header.",
            status=401,
        )


def check(request: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    """Raises Complaint for a request that the real API answers with a 4xx."""
    check_bearer(headers)
    check_keys(request, _KEYS, "Unrecognized request argument supplied: {}")
    if not isinstance(request.get("model"), str) or not request["model"]:
        raise Complaint("you must provide a model parameter")
    _check_options(request)
    _check_tools(request)
    _check_history(request.get("messages"))


def _check_options(request: Mapping[str, Any]) -> None:
    if request.get("stream_options") is not None and not request.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Complaint(message, param="stream_options")
    if request.get("max_tokens") is not None and request.get("max_completion_tokens") is not None:
        raise Complaint("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    temperature = request.get("temperature")
    if temperature is not None and not 0 <= temperature <= 2:
        raise Complaint("Invalid 'temperature': decimal out of range.", param="temperature")
    count = request.get("n")
    if count is not None and not 1 <= count <= 128:
        raise Complaint("Invalid 'n': integer out of range.", param="n")


def _check_tools(request: Mapping[str, Any]) -> None:
    tools = request.get("tools")
    if tools is None:
        for key in ("tool_choice", "parallel_tool_calls"):
            if request.get(key) is not None and request[key] != "none":
                raise Complaint(f"'{key}' is only allowed when 'tools' are specified.", param=key)
        return
    if not sequence(tools, "tools"):
        raise Complaint(
            "Invalid 'tools': empty array. Expected an array with minimum length 1.", param="tools"
        )
    named = (
        mapping(tool.get("function"), "tools")
        for tool in tools
        if mapping(tool, "tools").get("type") == "function"
    )
    check_names((each.get("name") for each in named), _TOOL)


def _check_history(messages: Any) -> None:
    if not sequence(messages, "messages"):
        raise Complaint(
            "Invalid 'messages': empty array. Expected an array with minimum length 1.", param="messages"
        )
    waiting: list[str] = []  # ids of calls that no tool message has answered yet
    asked: set[str] = set()
    for at, message in enumerate(messages):
        role = mapping(message, f"messages[{at}]").get("role")
        if role not in _ROLES:
            raise Complaint(
                f"Invalid value: {role!r}. Supported values are: {_ROLES}.", param=f"messages[{at}].role"
            )
        if role == "tool":
            _take_result(at, message, asked, waiting)
            continue
        _check_answered(waiting)
        asked, waiting = set(), []
        _check_content(at, message, role)
        if role == "assistant":
            waiting = [_call_id(at, call) for call in message.get("tool_calls") or ()]
            asked = set(waiting)
    _check_answered(waiting)


def _take_result(at: int, message: Mapping[str, Any], asked: set[str], waiting: list[str]) -> None:
    id = message.get("tool_call_id")
    if not asked:
        raise Complaint(
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
            param=f"messages.[{at}].role",
        )
    if id not in asked:
        raise Complaint(
            f"Invalid parameter: 'tool_call_id' of {id!r} not found in 'tool_calls' of previous message."
        )
    if not isinstance(message.get("content"), (str, list)):
        raise Complaint(
            f"Invalid type for 'messages[{at}].content': expected a string or an array of objects."
        )
    if id in waiting:
        waiting.remove(str(id))


def _check_answered(waiting: Sequence[str]) -> None:
    if waiting:
        raise Complaint(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(waiting)}"
        )


def _check_content(at: int, message: Mapping[str, Any], role: str) -> None:
    content = message.get("content")
    made = any(message.get(key) for key in ("tool_calls", "function_call", "refusal", "audio"))
    if content is None and not (role in ("assistant", "function") and made):
        raise Complaint(f"Invalid value for 'content': expected a string, got null. (messages[{at}])")
    if content is not None and not isinstance(content, (str, list)):
        raise Complaint(
            f"Invalid type for 'messages[{at}].content': expected one of a string or array of objects."
        )


def _call_id(at: int, call: Any) -> str:
    call = mapping(call, f"messages[{at}].tool_calls")
    id, kind = call.get("id"), call.get("type")
    if not isinstance(id, str) or not id:
        raise Complaint(f"Missing required parameter: 'messages[{at}].tool_calls[0].id'.")
    if len(id) > 40:
        raise Complaint(
            f"Invalid 'messages[{at}].tool_calls[0].id': string too long. Expected at most 40 characters."
        )
    if kind not in ("function", "custom"):
        raise Complaint(f"Missing required parameter: 'messages[{at}].tool_calls[0].type'.")
    inner = mapping(call.get(kind), f"messages[{at}].tool_calls[0].{kind}")
    if not isinstance(inner.get("arguments" if kind == "function" else "input"), str):
        raise Complaint(
            f"Invalid type for 'messages[{at}].tool_calls[0].{kind}.arguments': expected a string."
        )
    return id
