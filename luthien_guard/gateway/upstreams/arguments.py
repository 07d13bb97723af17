"""The request as arguments for litellm. A client writes the body, and litellm's functions take dozens of arguments that
decide where a request goes and with whose key (`api_base`, `api_key`, `fallbacks`, `mock_response`, ...): only what the
wire format itself knows may become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from luthien_guard.client.litellm_api import litellm
from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.errors import ConfigError
from luthien_guard.gateway.upstreams.types import Call, UpstreamError

__all__ = ["Arguments", "credential_of"]

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
_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "openai.chat": _CHAT,
    "anthropic.messages": _MESSAGES,
    "openai.responses": _RESPONSES,
}
#: Providers whose credential is the machine's.
_AMBIENT: Final = frozenset(
    {
        *(
            "bedrock",
            "bedrock_converse",
            "sagemaker",
            "sagemaker_chat",
            "vertex_ai",
            "vertex_ai_beta",
            "github_copilot",
        ),
        *("watsonx", "oci", "chatgpt", "gigachat", "sap", "litellm_proxy", "snowflake", "databricks"),
    }
)
#: Said by the gateway itself for every call.
_OURS: Final = ("model", "stream", "messages", "input", "api_key", "api_base", "base_url")


class Arguments:
    """What one upstream's settings make of each request."""

    def __init__(self, settings: UpstreamSettings, name: str) -> None:
        given = dict(settings.litellm or {})
        for key in _OURS:
            if key in given:
                raise ConfigError(
                    f"upstream {name}: litellm.{key}: use the upstream's own api_key, base_url and model"
                )
        self._allowed = frozenset(given.get("allowed_openai_params") or ())
        self._given = given
        self._settings = settings
        self.has_key = settings.api_key is not None

    def of(self, call: Call) -> tuple[dict[str, Any], list[str]]:
        """Arguments, and the fields of the request that may not become one."""
        import json

        body: dict[str, Any] = json.loads(call.body)
        known = _KNOWN[call.wire_format] | self._allowed
        arguments = {key: value for key, value in body.items() if key in known and value is not None}
        unknown = [
            key for key, value in body.items() if key not in known and key != "model" and value is not None
        ]
        arguments.update(self._given, model=self._settings.model or call.model)
        arguments["stream"] = call.stream
        arguments["num_retries"] = arguments["max_retries"] = 0  # the gateway's own retries see every failure
        if call.wire_format == "anthropic.messages":
            del arguments["max_retries"], arguments["num_retries"]
        arguments["drop_params"] = True  # and said so: what was dropped is found by looking
        self._add_address(arguments, call)
        return arguments, unknown

    def check_ambient(self, call: Call, model: str) -> None:
        """Some providers are asked with what the host's machine is allowed to (AWS, Google), whatever the caller sends.
        Raises UpstreamError for a caller whom that is not for."""
        if call.ambient or self.has_key or self._given:
            return
        provider = _provider(model)
        if provider in _AMBIENT:
            message = f"{provider} is asked with the host's own credential, and you are not known here as somebody who may"
            raise UpstreamError(403, "credential_not_forwardable", message, again=False)

    def _may_find(self, call: Call) -> bool:
        return call.ambient and not self.has_key

    def _add_address(self, arguments: dict[str, Any], call: Call) -> None:
        settings = self._settings
        if settings.base_url is not None:
            arguments["api_base"] = settings.base_url
        key = settings.api_key or (credential_of(call) if call.forwards_credential else None)
        if key is not None and not (self._may_find(call) and _has_environment(arguments["model"])):
            arguments["api_key"] = key
        headers = dict(settings.headers)
        beta = dict(call.headers).get(b"anthropic-beta")
        if beta is not None and call.wire_format == "anthropic.messages":
            headers.setdefault("anthropic-beta", beta.decode("latin-1"))
        if headers:
            arguments["extra_headers"] = headers


def _provider(model: str) -> str:
    """litellm's, which knows names without a prefix too."""
    try:
        found: str = litellm().get_llm_provider(model)[1]
    except Exception:  # noqa: BLE001 -- an unknown one: the call itself says so, in litellm's words
        return model.partition("/")[0]
    return found


def _has_environment(model: str) -> bool:
    """Whether litellm finds a credential by itself: that one is meant, and not the word that a client puts in its place."""
    return bool(litellm().validate_environment(model).get("keys_in_environment"))


def credential_of(call: Call) -> str | None:
    """The caller's own."""
    headers = dict(call.headers)
    key = headers.get(b"x-api-key") or headers.get(b"authorization", b"").partition(b" ")[2]
    return key.decode("latin-1").strip() or None
