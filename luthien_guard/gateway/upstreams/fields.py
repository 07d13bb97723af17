"""The fields of a request that its wire format knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["KNOWN"]

_CHAT: Final = frozenset(
    {
        *(
            "messages",
            "audio",
            "frequency_penalty",
            "function_call",
            "functions",
            "logit_bias",
            "logprobs",
            "n",
        ),
        *(
            "max_completion_tokens",
            "max_tokens",
            "modalities",
            "parallel_tool_calls",
            "prediction",
            "stop",
            "store",
        ),
        *("presence_penalty", "prompt_cache_key", "reasoning_effort", "response_format", "safety_identifier"),
        *(
            "seed",
            "service_tier",
            "stream",
            "stream_options",
            "temperature",
            "tool_choice",
            "tools",
            "top_logprobs",
        ),
        *("top_p", "user", "verbosity", "web_search_options", "prompt_cache_retention", "thinking"),
    }
)
_MESSAGES: Final = frozenset(
    {
        *("messages", "max_tokens", "system", "tools", "tool_choice", "stream", "metadata", "thinking"),
        *(
            "temperature",
            "top_k",
            "top_p",
            "stop_sequences",
            "container",
            "context_management",
            "output_config",
        ),
        *("output_format", "mcp_servers", "service_tier", "cache_control", "speed", "inference_geo"),
    }
)
_RESPONSES: Final = frozenset(
    {
        *(
            "input",
            "include",
            "instructions",
            "max_output_tokens",
            "metadata",
            "parallel_tool_calls",
            "reasoning",
        ),
        *(
            "previous_response_id",
            "store",
            "stream",
            "temperature",
            "text",
            "tool_choice",
            "tools",
            "top_p",
            "user",
        ),
        *("truncation", "service_tier", "safety_identifier", "prompt", "background", "max_tool_calls"),
        *("prompt_cache_key", "stream_options", "top_logprobs", "conversation", "context_management"),
    }
)
KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "openai.chat": _CHAT,
    "anthropic.messages": _MESSAGES,
    "openai.responses": _RESPONSES,
}
