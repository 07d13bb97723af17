"""Whether an upstream brings a credential of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from luthien_guard.config.settings import UpstreamSettings
from luthien_guard.gateway.upstreams.headers import CREDENTIALS

__all__ = ["credential_arguments", "has_own_credential", "key_in_headers"]

_NAMES: Final = frozenset(name.decode() for name in CREDENTIALS)
#: Arguments for litellm that are no credential and lead to none; any other may be (`vertex_credentials`, `aws_...`).
_HARMLESS: Final = frozenset(
    """
    additional_drop_params allowed_openai_params drop_params modify_params
    api_version custom_llm_provider request_timeout stream_timeout timeout
    frequency_penalty max_completion_tokens max_tokens presence_penalty reasoning_effort seed service_tier stop
    temperature top_k top_p
    aws_region_name vertex_ai_location vertex_ai_project vertex_location vertex_project
    """.split()  # noqa: SIM905 -- a name a line otherwise
)


def has_own_credential(settings: UpstreamSettings) -> bool:
    """An `api_key`, or a header that holds one. The caller's is not sent then."""
    return settings.api_key is not None or any(name.lower() in _NAMES for name in settings.headers)


def key_in_headers(headers: Mapping[str, str]) -> str | None:
    """The key alone, for who puts it into a header of their own."""
    for name, value in headers.items():
        scheme, _, key = value.strip().rpartition(" ")
        if name.lower() in _NAMES and scheme.lower() in ("", "bearer"):
            return key
    return None


def credential_arguments(settings: UpstreamSettings) -> frozenset[str]:
    """The arguments for litellm that may be a credential, by name."""
    return frozenset(settings.litellm or ()) - _HARMLESS
