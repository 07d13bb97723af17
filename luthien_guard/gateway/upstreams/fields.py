"""The fields of a request that its wire format knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["KNOWN"]

_CHAT: Final = frozenset(
    """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens
    messages modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key
    prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store
    stream stream_options temperature thinking tool_choice tools top_logprobs top_p user verbosity
    web_search_options
    """.split()  # noqa: SIM905 -- a name a line otherwise
)
_MESSAGES: Final = frozenset(
    """
    cache_control container context_management inference_geo max_tokens mcp_servers messages metadata
    output_config output_format service_tier speed stop_sequences stream system temperature thinking
    tool_choice tools top_k top_p
    """.split()  # noqa: SIM905 -- a name a line otherwise
)
_RESPONSES: Final = frozenset(
    """
    background context_management conversation include input instructions max_output_tokens max_tool_calls
    metadata parallel_tool_calls previous_response_id prompt prompt_cache_key reasoning safety_identifier
    service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p
    truncation user
    """.split()  # noqa: SIM905 -- a name a line otherwise
)
KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "openai.chat": _CHAT,
    "anthropic.messages": _MESSAGES,
    "openai.responses": _RESPONSES,
}
