"""Whether an upstream brings a credential of its own."""

from __future__ import annotations

from typing import Final

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway.upstreams.headers import CREDENTIALS

__all__ = ["credential_arguments", "has_own_credential"]

_NAMES: Final = frozenset(name.decode() for name in CREDENTIALS)
#: Arguments for litellm that are no credential and lead to none; any other may be (`vertex_credentials`, `aws_...`).
_HARMLESS: Final = frozenset(
    {
        *("allowed_openai_params", "additional_drop_params", "drop_params", "modify_params"),
        *("timeout", "stream_timeout", "request_timeout", "api_version", "custom_llm_provider"),
        *("temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "seed", "stop"),
        *("reasoning_effort", "service_tier", "frequency_penalty", "presence_penalty"),
        *("aws_region_name", "vertex_project", "vertex_location", "vertex_ai_project", "vertex_ai_location"),
    }
)


def has_own_credential(settings: UpstreamSettings) -> bool:
    """An `api_key`, or a header that holds one. The caller's is not sent then."""
    return settings.api_key is not None or any(name.lower() in _NAMES for name in settings.headers)


def credential_arguments(settings: UpstreamSettings) -> frozenset[str]:
    """The arguments for litellm that may be a credential, by name."""
    return frozenset(settings.litellm or ()) - _HARMLESS
